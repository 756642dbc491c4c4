"""A run of the data set made ready for training: normalised tomograms, mask and particle centres."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data.czi import Run, find_runs
from data.lazy_tomogram import LazyTomogram, open_lazily
from data.masks import make_mask, mask_folder, mask_path, read_mask
from data.memory import available_memory_bytes
from data.picks import read_run_picks
from data.tomogram import Tomogram, open_tomogram
from data.tomogram_cache import TomogramCache, normalise
from errors import InputError
from particle_config import Particle

# Tomograms of one training set may differ by rounding of the voxel size, not by more.
SPACING_TOLERANCE = 0.01


@dataclass(frozen=True)
class TrainingVolume:
    """One tomogram ready for training.

    Attributes
    ----------
    run_name : name of the run
    images : (Z, Y, X) float32 normalised tomograms of the same sample, one per tomogram type. Arrays, read-only memory
        maps or :class:`LazyTomogram`: each has a ``shape``, and three slices give a box of it.
    mask : (Z, Y, X) uint8 labels, an array or a read-only memory map
    centres_zyx_voxels : label -> (N, 3) float particle centres
    voxel_spacing_angstrom : of all of them
    """

    run_name: str
    images: tuple[np.ndarray | LazyTomogram, ...]
    mask: np.ndarray
    centres_zyx_voxels: Mapping[int, np.ndarray]
    voxel_spacing_angstrom: float

    def whole_image(self) -> np.ndarray:
        """The first tomogram as a writable array in memory; not a copy where it is one already."""
        return np.require(np.asarray(self.images[0]), requirements="W")


@dataclass(frozen=True)
class VolumeSource:
    """Where training volumes come from and how they are prepared.

    Attributes
    ----------
    data_root : root of the training tree
    mask_root : folder with ``segmentations_{fraction}`` of prepare_mask_czi.py; without that folder masks are
        painted from the picks
    tomo_types : read for every run, the first one validated on
    radius_fraction : of the target spheres; 0 for single voxels
    norm_percentiles : (lower, upper) in percent; None for the raw values of the tomograms
    voxel_spacing_angstrom : overrides the files'
    cache_dir : where normalised tomograms are kept from one training to the next, see data/tomogram_cache.py; None to
        keep nothing
    max_memory_gb : for tomograms and masks, in 10^9 bytes; None for half of what is free when they are read
    """

    data_root: Path
    mask_root: Path
    tomo_types: tuple[str, ...]
    radius_fraction: float
    norm_percentiles: tuple[float, float] | None
    particles: tuple[Particle, ...]
    voxel_spacing_angstrom: float | None = None
    cache_dir: Path | None = None
    max_memory_gb: float | None = None

    def runs(self) -> list[Run]:
        """The runs with a tomogram, and with a mask where masks were prepared; sorted by name."""
        runs = find_runs(self.data_root, tomo_type=self.tomo_types[0], split="train")
        for tomo_type in self.tomo_types[1:]:
            for run in runs:
                run.tomogram_path(tomo_type)
        if self.masks_prepared():
            runs = [run for run in runs if mask_path(self.mask_root, run.name, self.radius_fraction).is_file()]
            if not runs:
                raise InputError(
                    f"{mask_folder(self.mask_root, self.radius_fraction)} holds no mask of a run of {self.data_root}; "
                    "run prepare_mask_czi.py on this data root, or remove the folder"
                )
        return runs

    def masks_prepared(self) -> bool:
        return mask_folder(self.mask_root, self.radius_fraction).is_dir()

    def load_all(self, runs: Sequence[Run]) -> Iterator[TrainingVolume]:
        """Read, normalise and label runs one by one, in memory as long as they fit; the others stay on disk."""
        limit = available_memory_bytes() / 2 if self.max_memory_gb is None else self.max_memory_gb * 1e9
        free, on_disk = limit, []
        for run in runs:
            needed = self._bytes_in_memory(run)
            in_memory = needed <= free
            if in_memory:
                free -= needed
            else:
                on_disk.append(run.name)
            yield self.load(run, in_memory=in_memory)
        if on_disk:
            warnings.warn(
                f"{len(on_disk)} of {len(runs)} runs do not fit into {limit / 1e9:.1f} GB of memory; "
                f"their patches are read from disk ({on_disk[0]}{', ...' if len(on_disk) > 1 else ''})",
                stacklevel=2,
            )

    def load(self, run: Run, *, in_memory: bool = True) -> TrainingVolume:
        """Read, normalise and label one run; with ``in_memory`` False tomograms and a prepared mask stay on disk."""
        tomograms = self._open(run)
        first = next(iter(tomograms.values()))
        picks = read_run_picks(run.picks_dir, self.particles)
        if self.masks_prepared():
            path = mask_path(self.mask_root, run.name, self.radius_fraction)
            mask = read_mask(path, first.shape_zyx, memory_map=not in_memory)
        else:
            mask = make_mask(
                first.shape_zyx,
                picks,
                voxel_spacing_angstrom=first.voxel_spacing_angstrom,
                radius_fraction=self.radius_fraction,
                particles=self.particles,
            )
        return TrainingVolume(
            run_name=run.name,
            images=tuple(
                self._image(tomogram, run_name=run.name, tomo_type=tomo_type, in_memory=in_memory)
                for tomo_type, tomogram in tomograms.items()
            ),
            mask=mask,
            centres_zyx_voxels={
                particle.label: picks[particle.name] / first.voxel_spacing_angstrom
                for particle in self.particles
                if particle.name in picks
            },
            voxel_spacing_angstrom=first.voxel_spacing_angstrom,
        )

    def _open(self, run: Run) -> dict[str, Tomogram]:
        tomograms = {
            tomo_type: open_tomogram(run.tomogram_path(tomo_type), voxel_spacing_angstrom=self.voxel_spacing_angstrom)
            for tomo_type in self.tomo_types
        }
        first = tomograms[self.tomo_types[0]]
        for other in tomograms.values():
            if other.shape_zyx != first.shape_zyx:
                raise InputError(
                    f"{other.path} has shape {other.shape_zyx}, {first.path} has {first.shape_zyx}; "
                    "tomogram types trained on together must share their grid"
                )
        return tomograms

    def _bytes_in_memory(self, run: Run) -> int:
        tomograms = self._open(run)
        voxels = int(np.prod(tomograms[self.tomo_types[0]].shape_zyx))
        return voxels * (4 * len(tomograms) + 1)  # float32 tomograms, uint8 mask

    def _image(
        self, tomogram: Tomogram, *, run_name: str, tomo_type: str, in_memory: bool
    ) -> np.ndarray | LazyTomogram:
        if self.cache_dir is not None:
            names = {"run_name": run_name, "tomo_type": tomo_type}
            return TomogramCache(self.cache_dir).load(tomogram, self.norm_percentiles, **names, in_memory=in_memory)
        return (normalise if in_memory else open_lazily)(tomogram, self.norm_percentiles)


def check_same_spacing(volumes: list[TrainingVolume]) -> None:
    """InputError when the tomograms of a training set do not share their voxel size."""
    first = volumes[0]
    for other in volumes[1:]:
        if abs(other.voxel_spacing_angstrom / first.voxel_spacing_angstrom - 1) > SPACING_TOLERANCE:
            raise InputError(
                f"{other.run_name} has {other.voxel_spacing_angstrom:g} A per voxel, {first.run_name} has "
                f"{first.voxel_spacing_angstrom:g}; train on tomograms of one voxel size"
            )
