"""A run of the data set made ready for training: normalised tomograms, mask and particle centres."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data.czi import Run, find_runs
from data.masks import make_mask, mask_folder, mask_path, read_mask
from data.picks import read_run_picks
from data.tomogram import Tomogram, open_tomogram
from data.tomogram_cache import TomogramCache
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
    images : (Z, Y, X) float32 normalised tomograms of the same sample, one per tomogram type; memory maps
    mask : (Z, Y, X) uint8 labels
    centres_zyx_voxels : label -> (N, 3) float particle centres
    voxel_spacing_angstrom : of all of them
    """

    run_name: str
    images: tuple[np.ndarray, ...]
    mask: np.ndarray
    centres_zyx_voxels: Mapping[int, np.ndarray]
    voxel_spacing_angstrom: float


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
    cache_dir : where normalised tomograms are kept, see data/tomogram_cache.py
    voxel_spacing_angstrom : overrides the files'
    """

    data_root: Path
    mask_root: Path
    tomo_types: tuple[str, ...]
    radius_fraction: float
    norm_percentiles: tuple[float, float] | None
    particles: tuple[Particle, ...]
    cache_dir: Path
    voxel_spacing_angstrom: float | None = None

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

    def load(self, run: Run) -> TrainingVolume:
        """Normalise and label one run; its tomograms stay in the cache's files, a prepared mask in its own."""
        tomograms = self._open(run)
        first = tomograms[self.tomo_types[0]]
        picks, cache = read_run_picks(run.picks_dir, self.particles), TomogramCache(self.cache_dir)
        if self.masks_prepared():
            mask = read_mask(mask_path(self.mask_root, run.name, self.radius_fraction), first.shape_zyx)
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
                cache.load(tomogram, self.norm_percentiles, run_name=run.name, tomo_type=tomo_type)
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


def check_same_spacing(volumes: Sequence[TrainingVolume]) -> None:
    """InputError when the tomograms of a training set do not share their voxel size."""
    first = volumes[0]
    for other in volumes[1:]:
        if abs(other.voxel_spacing_angstrom / first.voxel_spacing_angstrom - 1) > SPACING_TOLERANCE:
            raise InputError(
                f"{other.run_name} has {other.voxel_spacing_angstrom:g} A per voxel, {first.run_name} has "
                f"{first.voxel_spacing_angstrom:g}; train on tomograms of one voxel size"
            )
