"""What happens around training: checkpoints and progress."""

from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import Tensor
from tqdm import tqdm

from errors import InputError

STEPS_BETWEEN_LOOKS = 20


class BestCheckpoint(ModelCheckpoint):
    """The best by a metric, decided at the end of an epoch; ``{name}-epoch={e}-f4={v}.ckpt``, one at a time.

    It holds the weights and their description; with the optimiser's memory it would be four times as large.

    A resumed run goes by the files that are there: the experiment may have been moved, and a run that was killed may
    have come further than the checkpoint that it is resumed from.
    """

    def __init__(self, folder: Path, name: str, metric: str) -> None:
        super().__init__(
            dirpath=folder,
            filename=f"{name}-epoch={{epoch}}-f4={{{metric}:.3f}}",
            auto_insert_metric_name=False,
            monitor=metric,
            mode="max",
            save_top_k=1,
            save_weights_only=True,
            save_on_train_epoch_end=True,
            enable_version_counter=False,
        )
        self.pattern = f"{name}-epoch=*-f4=*.ckpt"

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        best, score = Path(self.dirpath) / Path(state_dict["best_model_path"]).name, state_dict["best_model_score"]
        if not best.is_file():
            best = max(Path(self.dirpath).glob(self.pattern), key=_score_in_name, default=None)
            score = None if best is None else torch.tensor(_score_in_name(best))
        if best is not None:
            self.best_model_path = self.kth_best_model_path = str(best)
            self.best_model_score = self.kth_value = score
            self.best_k_models = {str(best): score}

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # A run resumed from the end of an epoch comes by here once more, without metrics.
        if self.monitor in trainer.callback_metrics:
            super().on_train_epoch_end(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """What a killed run left behind would otherwise be taken for a network of the ensemble."""
        if trainer.is_global_zero:
            for path in Path(self.dirpath).glob(self.pattern):
                if path != Path(self.best_model_path):
                    path.unlink()


class LastCheckpoint(ModelCheckpoint):
    """The last state: written at the end of an epoch, and when a run is interrupted."""

    def __init__(self, folder: Path, name: str) -> None:
        super().__init__(
            dirpath=folder,
            filename=name,
            save_on_train_epoch_end=True,
            save_on_exception=True,
            enable_version_counter=False,
        )

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        if not isinstance(exception, InputError):  # a state that cannot be gone on from
            super().on_exception(trainer, pl_module, exception)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """There is but one; a resumed run remembers nothing of it."""


def _score_in_name(path: Path) -> float:
    return float(path.stem.rsplit("=", 1)[1])


def checkpoint_callbacks(folder: Path, fold: int, particle_names: list[str]) -> list[ModelCheckpoint]:
    """The best generalist, the best specialist of each particle, and the last state."""
    generalist = BestCheckpoint(folder, f"fold_{fold}-best-fscore", "f4")
    specialists = [BestCheckpoint(folder, f"fold_{fold}-best-{name}", f"f4_{name}") for name in particle_names]
    return [generalist, *specialists, LastCheckpoint(folder, f"fold_{fold}-last")]


class TrainingProgress(Callback):
    """One bar over all steps with loss, F4 and time left; without a terminal, one line per epoch."""

    def __init__(self, fold: int) -> None:
        self.fold = fold
        self.bar: tqdm | None = None
        self.loss: Tensor | None = None
        self.lost_looks = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.is_global_zero:
            self.bar = tqdm(
                total=trainer.estimated_stepping_batches,
                initial=trainer.global_step,
                desc=f"fold {self.fold}",
                unit="step",
                dynamic_ncols=True,
                disable=None,
            )

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs, batch, batch_idx) -> None:
        if self.bar is None:
            return
        self.loss = outputs["loss"].detach()
        self.bar.update(1)
        # Reading the loss makes the device wait: seldom.
        if trainer.global_step % STEPS_BETWEEN_LOOKS == 0:
            self._show(trainer)
            self._check_loss(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.bar is None:
            return
        self._show(trainer)
        if self.bar.disable:
            metrics = trainer.callback_metrics
            loss = "" if self.loss is None else f"loss {float(self.loss):.4f} "
            print(
                f"fold {self.fold} epoch {trainer.current_epoch} step {trainer.global_step} "
                f"{loss}f4 {float(metrics['f4']):.4f}",
                flush=True,
            )

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.bar is not None:
            self.bar.close()
            self.bar = None

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self.on_train_end(trainer, pl_module)

    def _check_loss(self, trainer: Trainer) -> None:
        """One overflow is forgiven (fp16 skips such steps), twice in a row the weights are lost."""
        self.lost_looks = 0 if torch.isfinite(self.loss) else self.lost_looks + 1
        if self.lost_looks == 2:
            raise InputError(
                f"fold {self.fold}: the loss is no number any more at step {trainer.global_step}; "
                "lower --lr or use --precision fp32 (fold_*-last.ckpt is from before)"
            )

    def _show(self, trainer: Trainer) -> None:
        # A run resumed before a validation has no loss yet.
        values = {} if self.loss is None else {"loss": f"{float(self.loss):.3f}"}
        if "f4" in trainer.callback_metrics:
            values["F4"] = f"{float(trainer.callback_metrics['f4']):.3f}"
        self.bar.set_postfix(values)
