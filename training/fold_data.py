"""The batches of a fold: drawn without end from the training runs, and the one held-out tomogram."""

from typing import Any

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, Dataset

from data.folds import Fold
from data.patches import BatchIndexSampler, PatchBatches
from data.training_volume import TrainingVolume
from training.settings import TrainingSettings


class HeldOutTomogram(Dataset):
    """The one tomogram that is validated on."""

    def __init__(self, volume: TrainingVolume) -> None:
        self.volume = volume

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {"volume": torch.from_numpy(self.volume.images[0])}

    def __len__(self) -> int:
        return 1


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
        )
        sampler = BatchIndexSampler(
            settings.steps_per_epoch,
            rank=self.trainer.global_rank,
            world_size=self.trainer.world_size,
            first_step=self.steps_done,
            first_batch=self.batches_done,
        )
        return DataLoader(
            batches,
            sampler=sampler,
            batch_size=None,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            pin_memory=self.pin_memory,
        )

    def val_dataloader(self) -> DataLoader:
        return DataLoader(HeldOutTomogram(self.fold.validation), batch_size=None)

    def state_dict(self) -> dict[str, Any]:
        steps, processes = self.trainer.global_step, self.trainer.world_size
        before = self.steps_done * processes if self.batches_done is None else self.batches_done
        return {"steps_done": steps, "batches_done": before + (steps - self.steps_done) * processes}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.steps_done = state_dict["steps_done"]
        # Earlier versions did not count batches: as if there had been as many processes as now.
        self.batches_done = state_dict.get("batches_done")
