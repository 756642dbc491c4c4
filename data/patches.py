"""Training patches cut from tomograms, a whole batch at a time."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from data.training_volume import TrainingVolume
from errors import InputError

# The particle lies within this share of the patch side from the patch's centre.
CENTRE_JITTER_FRACTION = 1 / 8


class PatchBatches(Dataset):
    """Item k is training batch k, the same whenever it is asked for.

    Each patch: a tomogram (uniform; with ``extra_share`` one of ``extra``), then with ``background_fraction`` a place
    anywhere, otherwise a class uniform over those present, a particle uniform in the class, and a centre offset uniform
    within an eighth of the patch; clipped to the volume. Of several tomogram types one is drawn per patch.

    Parameters
    ----------
    volumes : the tomograms; each at least as large as the patch
    extra, extra_share : further ones, and the share of patches cut from them
    patch_size_zyx : voxels
    batch_size : patches per batch
    background_fraction : share of patches placed without regard to particles
    seed : of everything drawn
    """

    def __init__(
        self,
        volumes: Sequence[TrainingVolume],
        *,
        patch_size_zyx: tuple[int, int, int],
        batch_size: int,
        background_fraction: float,
        seed: int,
        extra: Sequence[TrainingVolume] = (),
        extra_share: float = 0.0,
    ) -> None:
        check_patch_fits((*volumes, *extra), patch_size_zyx)
        self.volumes = tuple(volumes)
        self.extra, self.extra_share = tuple(extra), extra_share if extra else 0.0
        self.patch_size = np.array(patch_size_zyx)
        self.batch_size = batch_size
        self.background_fraction = background_fraction
        self.seed = seed

    def __getitem__(self, index: int) -> dict[str, Tensor | int]:
        """Batch ``index``: image (B, 1, Z, Y, X) float32, label (B, Z, Y, X) uint8, and its number."""
        rng = np.random.default_rng((self.seed, index))
        images = torch.empty(self.batch_size, 1, *self.patch_size)
        labels = torch.empty(self.batch_size, *self.patch_size, dtype=torch.uint8)
        for k in range(self.batch_size):
            for batch, region in zip((images[k, 0], labels[k]), self._cut(rng), strict=True):
                batch.copy_(torch.from_numpy(region))  # torch copies by several threads
        return {
            "image": images,
            "label": labels,
            "index": index,  # a plain number: reading it never makes a device wait
        }

    def _cut(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        is_extra = self.extra_share > 0 and rng.random() < self.extra_share
        volumes = self.extra if is_extra else self.volumes
        volume = volumes[rng.integers(len(volumes))]
        image = volume.images[rng.integers(len(volume.images))]
        corner = self._corner(volume, rng)
        region = tuple(slice(c, c + side) for c, side in zip(corner, self.patch_size, strict=True))
        return image[region], volume.mask[region]

    def _corner(self, volume: TrainingVolume, rng: np.random.Generator) -> np.ndarray:
        highest = np.array(volume.mask.shape) - self.patch_size
        present = [label for label, centres in volume.centres_zyx_voxels.items() if len(centres)]
        if not present or rng.random() < self.background_fraction:
            return rng.integers(highest + 1)
        centres = volume.centres_zyx_voxels[present[rng.integers(len(present))]]
        centre = centres[rng.integers(len(centres))]
        jitter = rng.uniform(-CENTRE_JITTER_FRACTION, CENTRE_JITTER_FRACTION, 3) * self.patch_size
        corner = np.rint(centre + jitter - (self.patch_size - 1) / 2).astype(int)
        return np.clip(corner, 0, highest)


class BatchIndexSampler(Sampler[int]):
    """The batch numbers of an epoch, continuing where the epoch before ended.

    Of ``world_size`` processes that train together, step s of the whole run on process ``rank`` is batch
    s * world_size + rank: no two processes see the same batch. A resumed run begins at ``first_step`` with batch
    ``first_batch`` (None: as many processes as now came so far); its first epoch is the rest of the one that was
    interrupted.
    """

    def __init__(
        self,
        batches_per_epoch: int,
        rank: int = 0,
        world_size: int = 1,
        first_step: int = 0,
        first_batch: int | None = None,
    ) -> None:
        if not 0 <= rank < world_size:
            raise ValueError(f"rank {rank} is not one of {world_size} processes")
        self.batches_per_epoch = batches_per_epoch
        self.rank = rank
        self.world_size = world_size
        self.first_step = first_step
        self.first_batch = first_step * world_size if first_batch is None else first_batch
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        # Loaders that read ahead come here before a resumed run has told its epoch.
        epoch = max(self.epoch, self.first_step // self.batches_per_epoch)
        first = epoch * self.batches_per_epoch
        steps = range(max(first, self.first_step), first + self.batches_per_epoch)
        return (self.first_batch + (step - self.first_step) * self.world_size + self.rank for step in steps)

    def __len__(self) -> int:
        """Batches per epoch of this process."""
        return self.batches_per_epoch


def check_patch_fits(volumes: Sequence[TrainingVolume], patch_size_zyx: Sequence[int]) -> None:
    """InputError when a tomogram is smaller than the patch."""
    for volume in volumes:
        if any(side < patch for side, patch in zip(volume.mask.shape, patch_size_zyx, strict=True)):
            raise InputError(
                f"patch size {_sides(patch_size_zyx)} does not fit into {volume.run_name} "
                f"({_sides(volume.mask.shape)} voxels); choose a smaller --patch_size"
            )


def _sides(shape: Sequence[int]) -> str:
    return " x ".join(str(int(side)) for side in shape)
