"""The checkpoints of a fold: which are kept, how they are written, and which one to go on from."""

from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins import TorchCheckpointIO
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.utilities.exceptions import SIGTERMException
from torch import Tensor

from data.files import atomic_path
from errors import InputError
from inference.checkpoint_files import read_checkpoint_file
from training.module import SMOOTHED


class AtomicCheckpoints(TorchCheckpointIO):
    """A checkpoint is there as a whole or not at all: Lightning's own copies it over the older one.

    Equal states make equal files, whatever their names: specialists of the same epoch are known as the same network.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            torch.save(checkpoint, file)  # to a path it would write the name into the file


class BestCheckpoint(ModelCheckpoint):
    """The best by a metric's mean over the last validations, ``{name}-epoch={e}-f4={v}.ckpt`` with its value then.

    Decided at the end of an epoch, one file at a time. It holds the weights and their description; with the
    optimiser's memory it would be four times as large.

    A resumed run goes by the files that are there: the experiment may have been moved, and a run that was killed may
    have come further than the checkpoint that it is resumed from.
    """

    def __init__(self, folder: Path, name: str, metric: str) -> None:
        super().__init__(
            dirpath=folder,
            filename=f"{name}-epoch={{epoch}}-f4={{{metric}:.3f}}",
            auto_insert_metric_name=False,
            monitor=f"{SMOOTHED}{metric}",
            mode="max",
            save_top_k=1,
            save_weights_only=True,
            save_on_train_epoch_end=True,
            enable_version_counter=False,
        )
        self.pattern = f"{name}-epoch=*-f4=*.ckpt"

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        best, score = Path(self.dirpath) / Path(state_dict["best_model_path"]).name, state_dict["best_model_score"]
        if not best.is_file():  # an epoch that comes again has taken its place, and will do so again
            best = max(Path(self.dirpath).glob(self.pattern), key=lambda path: path.stat().st_mtime, default=None)
            score = torch.tensor(-torch.inf)
        if best is not None:
            self.best_model_path = self.kth_best_model_path = str(best)
            self.best_model_score = self.kth_value = score
            self.best_k_models = {str(best): score}

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # Not every epoch is validated; and a run resumed from the end of one comes by here once more, without metrics.
        if self.monitor in trainer.callback_metrics and pl_module.validated_in(trainer.current_epoch):
            super().on_train_epoch_end(trainer, pl_module)

    def check_monitor_top_k(self, trainer: Trainer, current: Tensor | None = None) -> bool:
        """Of equals the later: a particle not found yet would keep the network of the first epoch for ever."""
        return super().check_monitor_top_k(trainer, current) or current == self.best_model_score

    def remove_others(self) -> None:
        """What a killed run left behind would otherwise be taken for a network of the ensemble."""
        if self.best_model_path:
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

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        loss = trainer.callback_metrics.get("train_loss")
        if loss is None or torch.isfinite(loss):  # else the state cannot be gone on from
            super().on_train_epoch_end(trainer, pl_module)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        stopped = isinstance(exception, KeyboardInterrupt | SIGTERMException)
        # An error of one process alone: the others would be waited for in vain.
        alone = trainer.world_size > 1 and not stopped
        if not alone and not isinstance(exception, InputError):
            super().on_exception(trainer, pl_module, exception)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Nothing to load: the file's name is always the same."""


def checkpoint_callbacks(folder: Path, fold: int, particle_names: list[str]) -> list[ModelCheckpoint]:
    """The best generalist, the best specialist of each particle, and the last state."""
    generalist = BestCheckpoint(folder, f"fold_{fold}-best-fscore", "f4")
    specialists = [BestCheckpoint(folder, f"fold_{fold}-best-{name}", f"f4_{name}") for name in particle_names]
    return [generalist, *specialists, LastCheckpoint(folder, f"fold_{fold}-last")]


def newest_state(experiment_dir: Path, fold: int) -> Path | None:
    """What an unfinished fold can go on from: its last checkpoint or one that SLURM asked for; None before any."""
    candidates = [experiment_dir / f"fold_{fold}-last.ckpt", *(experiment_dir / f"fold_{fold}").glob("hpc_ckpt_*.ckpt")]
    return max((path for path in candidates if path.is_file()), key=steps_done, default=None)


def steps_done(path: Path) -> int:
    """Optimizer steps behind a checkpoint."""
    steps = read_checkpoint_file(path, mmap=True).get("global_step")
    if not isinstance(steps, int):
        raise InputError(f"{path} is not a state of a training; remove it, or restore it")
    return steps
