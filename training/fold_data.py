"""The batches of a fold, drawn without end from the training runs."""

from typing import Any

import pytorch_lightning as pl
from torch.utils.data import DataLoader, Dataset

from data.folds import Fold
from data.patches import BatchIndexSampler, PatchBatches
from errors import InputError
from training.settings import TrainingSettings


class _Drawn(Dataset):
    """Batches; where a tomogram cannot be read, the reason in place of one, since processes garble errors."""

    def __init__(self, batches: PatchBatches) -> None:
        self.batches = batches

    def __getitem__(self, index: int) -> dict[str, Any]:
        try:
            return self.batches[index]
        except InputError as error:
            return {"error": str(error)}


class FoldData(pl.LightningDataModule):
    """Deals the batches of a run out to its processes, and remembers how far a run has come.

    Parameters
    ----------
    num_workers : processes that cut patches; 0 cuts them in this one
    pin_memory : faster way to a GPU
    """

    def __init__(self, fold: Fold, settings: TrainingSettings, *, num_workers: int, pin_memory: bool) -> None:
        super().__init__()
        self.fold = fold
        self.settings = settings
        self.num_workers = num_workers
        self.pin_memory = pin_memory
        self.steps_done = 0
        self.batches_done: int | None = None  # of all processes, before this run was resumed

    def train_dataloader(self) -> DataLoader:
        settings = self.settings
        batches = PatchBatches(
            self.fold.training,
            patch_size_zyx=settings.patch_size_zyx,
            batch_size=settings.batch_size,
            background_fraction=settings.background_fraction,
            seed=settings.seed,
            extra=self.fold.extra,
            extra_share=settings.extra_share,
        )
        sampler = BatchIndexSampler(
            settings.steps_per_epoch,
            rank=self.trainer.global_rank,
            world_size=self.trainer.world_size,
            first_step=self.steps_done,
            first_batch=self.batches_done,
        )
        return DataLoader(
            _Drawn(batches),
            sampler=sampler,
            batch_size=None,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            pin_memory=self.pin_memory,
        )

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        if isinstance(batch, dict) and "error" in batch:
            raise InputError(batch["error"])
        return batch

    def val_dataloader(self) -> DataLoader:
        """One item that means: validate. The module has the held-out tomograms, and reads one at a time."""
        return DataLoader([0], batch_size=None)

    def state_dict(self) -> dict[str, Any]:
        steps, processes = self.trainer.global_step, self.trainer.world_size
        before = self.steps_done * processes if self.batches_done is None else self.batches_done
        return {"steps_done": steps, "batches_done": before + (steps - self.steps_done) * processes}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.steps_done = state_dict["steps_done"]
        # Earlier versions did not count batches: as if there had been as many processes as now.
        self.batches_done = state_dict.get("batches_done")
