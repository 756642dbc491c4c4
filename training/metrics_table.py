"""The metrics of a fold: a CSV with one row per validation, and the learning curves as a picture."""

import time
import warnings
from collections.abc import Iterable
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter
from pytorch_lightning import Callback, LightningModule, Trainer

from data.drawing import names_as_written
from data.files import atomic_path
from errors import raise_scarcity
from particle_config import Particle

# The picture is drawn anew no more often than this, and at the end.
SECONDS_BETWEEN_PICTURES = 30.0


class MetricsTable(Callback):
    """Writes ``metrics.csv`` and ``learning_curves.png`` into a folder after every validation.

    Times are those of its epoch. A resumed run keeps the rows of the epochs before it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rows: list[dict] = []
        self.epoch_start = self.validation_start = self.last_picture = time.monotonic()

    @property
    def path(self) -> Path:
        return self.folder / "metrics.csv"

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.current_epoch > 0 and self.path.is_file():
            before = read_metrics(self.path)
            self.rows = before[before["epoch"] < trainer.current_epoch].to_dict("records")

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.epoch_start = time.monotonic()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.validation_start = time.monotonic()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # A run resumed from the end of an epoch comes by here once more, without metrics.
        new = "f4" in trainer.callback_metrics and pl_module.validated_in(trainer.current_epoch)
        if not trainer.is_global_zero or not new:
            return
        self.rows.append(
            {
                "epoch": trainer.current_epoch,
                "step": trainer.global_step,
                "seconds": round(self.validation_start - self.epoch_start, 2),
                "validation_seconds": round(time.monotonic() - self.validation_start, 2),
                "learning_rate": trainer.optimizers[0].param_groups[0]["lr"],
                **{name: float(value) for name, value in trainer.callback_metrics.items()},
            }
        )
        self.folder.mkdir(parents=True, exist_ok=True)
        with atomic_path(self.path) as temporary:
            pd.DataFrame(self.rows).to_csv(temporary, index=False)
        if time.monotonic() - self.last_picture > SECONDS_BETWEEN_PICTURES:
            self.draw(pl_module.description.particles)

    def draw(self, particles: Iterable[Particle]) -> None:
        """The learning curves of what is in the table, if there is one."""
        self.last_picture = time.monotonic()
        if self.path.is_file():
            save_learning_curves(self.path, self.folder / "learning_curves.png", particles)


def read_metrics(path: Path) -> pd.DataFrame:
    """The table of an earlier run; with a warning, an empty one where it is damaged."""
    try:
        table = pd.read_csv(path)
        if all(pd.api.types.is_numeric_dtype(table[name]) for name in table) and {"epoch", "step", "f4"} <= set(table):
            return table
    except (OSError, ValueError) as error:
        raise_scarcity(error)
    warnings.warn(f"{path} is damaged; its rows begin anew", stacklevel=2)
    return pd.DataFrame({"epoch": []})


@names_as_written
def save_learning_curves(table: Path, picture: Path, particles: Iterable[Particle]) -> None:
    """Loss and its terms on the left, F4 and that of every particle in its colour on the right, against steps."""
    metrics = pd.read_csv(table)
    figure = Figure(figsize=(12.5, 4.2), layout="constrained")
    loss_axes, score_axes = figure.subplots(1, 2)
    marker = "o" if len(metrics) < 20 else None
    for name in [column for column in metrics if column.startswith("train_")]:
        main = name == "train_loss"
        label = name.removeprefix("train_")
        loss_axes.plot(metrics["step"], metrics[name], label=label, lw=2.2 if main else 1, marker=marker, ms=3)
    colours = {particle.name: particle.colour for particle in particles}
    for name in [column for column in metrics if column.startswith("f4_")]:
        particle = name.removeprefix("f4_")
        score_axes.plot(metrics["step"], metrics[name], label=particle, color=colours.get(particle), lw=1.4)
    score_axes.plot(metrics["step"], metrics["f4"], label="weighted F4", color="black", lw=2.2, marker=marker, ms=3)
    kept = kept_epoch(metrics)
    score_axes.annotate(
        f"kept {metrics['f4'][kept]:.3f}",
        (metrics["step"][kept], metrics["f4"][kept]),
        xytext=(0, 7),
        textcoords="offset points",
        ha="right",
    )
    loss_axes.set(title="training loss", xlabel="optimizer step")
    if loss_axes.lines:
        loss_axes.set_yscale("log")
        # By default ticks are formulas.
        loss_axes.yaxis.set(major_locator=LogLocator(subs=(1, 2, 3, 5)), major_formatter="{x:g}")
        loss_axes.yaxis.set(minor_formatter=NullFormatter())
    score_axes.set(title="F4 on the held-out tomograms", xlabel="optimizer step", ylim=(0, 1.05))
    for axes in (loss_axes, score_axes):
        axes.grid(alpha=0.3)
        if axes.lines:  # a run resumed in its last validation has no loss
            axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    with atomic_path(picture) as temporary:
        figure.savefig(temporary, dpi=110, format="png")


def kept_epoch(metrics: pd.DataFrame) -> int:
    """Index of the row whose checkpoint is kept as the best; rows of earlier versions count by their own score."""
    scores = metrics.get("smoothed_f4", metrics["f4"]).fillna(metrics["f4"])
    return scores[scores == scores.max()].index[-1]
