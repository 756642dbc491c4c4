"""A run of the data set made ready for training: normalised tomograms, mask and particle centres."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from data.content_hash import hash_of, points_hash
from data.czi import Run, find_runs
from data.files import check_complete
from data.lazy_array import LazyArray
from data.masks import (
    difference,
    is_damaged,
    make_mask,
    mask_folder,
    mask_path,
    mask_radii_voxels,
    mask_record,
    read_mask,
    unpainted,
)
from data.picks import read_run_picks
from data.spectrum import amplitude_spectrum, mean_spectrum, particle_skewness
from data.tomogram import Tomogram, in_plane_spacing, open_tomogram
from data.tomogram_cache import TomogramCache
from errors import InputError
from particle_config import Particle

Voxels = np.ndarray | LazyArray
# Tomograms of one training set may differ by rounding of the voxel size, not by more.
SPACING_TOLERANCE = 0.01
# Tomograms whose grey values are looked at, at most.
MEASURED_TOMOGRAMS = 16
# Tomograms are resampled to the voxel size of the first run by name.
FIRST_RUN = "first"


@dataclass(frozen=True)
class TrainingVolume:
    """One tomogram ready for training.

    Attributes
    ----------
    run_name : name of the run
    images : (Z, Y, X) float32 normalised tomograms of the same sample, one per tomogram type
    mask : (Z, Y, X) uint8 labels
    centres_zyx_voxels : label -> (N, 3) float particle centres
    voxel_spacing_angstrom : of all of them
    """

    run_name: str
    images: tuple[Voxels, ...]
    mask: Voxels
    centres_zyx_voxels: Mapping[int, np.ndarray]
    voxel_spacing_angstrom: float

    def prepare(self) -> None:
        """Normalise the tomogram that is validated on, where it is not in the cache yet."""
        self.images[0][:1, :1, :1]

    def truth_zyx_angstrom(self, particles: Iterable[Particle]) -> dict[str, np.ndarray]:
        """Particle name -> (N, 3) reference points; none where the run has none."""
        none = np.empty((0, 3))
        return {p.name: self.centres_zyx_voxels.get(p.label, none) * self.voxel_spacing_angstrom for p in particles}


def appearance_of(volumes: Sequence[TrainingVolume], extra: Sequence[TrainingVolume] = ()) -> dict[str, Any]:
    """Mean ``spectrum`` and ``skewness`` of the tomograms, or of some of many, and the range of their spectra.

    See data.spectrum. Taken from the held-out ones as well: all folds of an experiment have the same. To the range
    ``extra`` data contribute, too.
    """
    some, others = _some_images(volumes), _some_images(extra)
    spectra = list(map(amplitude_spectrum, some))
    everything = np.array([*spectra, *map(amplitude_spectrum, others)])
    return {
        "spectrum": tuple(mean_spectrum(spectra).tolist()),
        "spectrum_range": tuple(tuple(bound.tolist()) for bound in (everything.min(axis=0), everything.max(axis=0))),
        "skewness": float(np.median(list(map(particle_skewness, some)))),
    }


def _some_images(volumes: Sequence[TrainingVolume]) -> list[Voxels]:
    """The tomograms that are validated on, evenly chosen by name where there are many."""
    named = sorted(volumes, key=lambda volume: volume.run_name)
    return [volume.images[0] for volume in named[:: max(1, -(-len(named) // MEASURED_TOMOGRAMS))]]


@dataclass(frozen=True)
class Labels:
    """What a run's picks say about its tomogram, known without reading voxels.

    Attributes
    ----------
    run : the run
    tomograms : type -> its tomogram, the first being the one that is validated on
    mask : (Z, Y, X) uint8 labels
    centres_zyx_voxels : label -> (N, 3) float particle centres
    voxel_spacing_angstrom : of its tomograms
    content : hash of the picks, the shape and the voxel size
    outside : how many points have no voxel in the tomogram
    painted_since : why the mask is not that of the folder of masks, in words; empty when it is, or there is no folder
    """

    run: Run
    tomograms: Mapping[str, Tomogram]
    mask: Voxels
    centres_zyx_voxels: Mapping[int, np.ndarray]
    voxel_spacing_angstrom: float
    content: str
    outside: int
    painted_since: str

    @property
    def run_name(self) -> str:
        return self.run.name

    @property
    def points(self) -> int:
        return sum(len(centres) for centres in self.centres_zyx_voxels.values())


@dataclass(frozen=True)
class VolumeSource:
    """Where training volumes come from and how they are prepared.

    Attributes
    ----------
    data_root : root of the training tree
    mask_root : folder with ``segmentations_{fraction}`` of prepare_mask_czi.py
    tomo_types : trained on; of each run those that it has, the first of them validated on
    radius_fraction : of the target spheres; 0 for single voxels
    norm_percentiles : (lower, upper) in percent; None for the raw values of the tomograms
    cache_dir : where normalised tomograms are kept, see data/tomogram_cache.py
    voxel_spacing_angstrom : overrides the files'
    masks_given : the user named ``mask_root``: a run without a mask there is left out, and one of other picks an error.
        Else masks that are missing or outdated are painted from the picks.
    rescale : resample tomograms of another voxel size to this one, angstrom, or to that of the FIRST_RUN by name
        (along y and x, where its voxels are no cubes)
    """

    data_root: Path
    mask_root: Path
    tomo_types: tuple[str, ...]
    radius_fraction: float
    norm_percentiles: tuple[float, float] | None
    particles: tuple[Particle, ...]
    cache_dir: Path
    voxel_spacing_angstrom: float | None = None
    masks_given: bool = False
    rescale: float | str | None = None

    def runs(self) -> list[Run]:
        """The runs with a tomogram of any of the types, and with a mask where masks are given; sorted by name."""
        runs = training_runs(self.data_root, self.tomo_types)
        if self.masks_given:
            folder = mask_folder(self.mask_root, self.radius_fraction)
            check_complete(folder)
            runs = [run for run in runs if self._mask_path(run).is_file()]
            if not runs:
                problem = f"holds no mask of a run of {self.data_root}" if folder.is_dir() else "does not exist"
                raise InputError(
                    f"--mask_dir {self.mask_root}: {folder.name} {problem}; make it with prepare_mask_czi.py "
                    f"--output_dir {self.mask_root} on this data root, or train without --mask_dir"
                )
        return runs

    def left_out(self) -> dict[str, str]:
        """Training runs that :meth:`runs` leaves out -> what they lack."""
        taken, typed = ({run.name for run in one.runs()} for one in (self, replace(self, masks_given=False)))
        lacking = f"{' or '.join(self.tomo_types)} tomogram"
        return {
            run.name: f"mask in {self._mask_path(run).parent}" if run.name in typed else lacking
            for run in find_runs(self.data_root, split="train")
            if run.name not in taken
        }

    def types_of(self, run: Run) -> list[str]:
        """Of a run as :meth:`runs` gives it."""
        return types_of(run, self.tomo_types)

    @cached_property
    def rescale_to_angstrom(self) -> float | None:
        """The voxel size that tomograms are resampled to; None: they are taken as they are."""
        if self.rescale != FIRST_RUN:
            return self.rescale
        first = self.runs()[0]
        path = first.tomogram_path(self.types_of(first)[0])
        return in_plane_spacing(path, voxel_spacing_angstrom=self.voxel_spacing_angstrom)

    def labels(self, run: Run) -> Labels:
        """What the picks of a run say; InputError for picks that are wrong and for given masks of other picks."""
        tomograms = self._open(run)
        tomogram = next(iter(tomograms.values()))
        picks, spacing = read_run_picks(run.picks_dir, self.particles), tomogram.voxel_spacing_angstrom
        centres = {p.label: picks[p.name] / spacing for p in self.particles if p.name in picks}
        mask, painted_since = self._mask(run, tomogram, picks)
        radii = mask_radii_voxels(self.particles, voxel_spacing_angstrom=spacing, radius_fraction=self.radius_fraction)
        return Labels(
            run=run,
            tomograms=tomograms,
            mask=mask,
            centres_zyx_voxels=centres,
            voxel_spacing_angstrom=spacing,
            content=run_content(picks, tomogram),
            outside=sum(int(unpainted(tomogram.shape_zyx, c, radii[label]).sum()) for label, c in centres.items()),
            painted_since=painted_since,
        )

    def load(self, run: Run, labels: Labels | None = None) -> TrainingVolume:
        """One run, with labels read before or now; its tomograms are normalised when they are first cut."""
        labels, cache = labels or self.labels(run), TomogramCache(self.cache_dir)
        return TrainingVolume(
            run_name=run.name,
            images=tuple(
                cache.lazily(tomogram, self.norm_percentiles, run_name=run.name, tomo_type=tomo_type)
                for tomo_type, tomogram in labels.tomograms.items()
            ),
            mask=labels.mask,
            centres_zyx_voxels=labels.centres_zyx_voxels,
            voxel_spacing_angstrom=labels.voxel_spacing_angstrom,
        )

    def _mask_path(self, run: Run) -> Path:
        return mask_path(self.mask_root, run.name, self.radius_fraction)

    def _mask(self, run: Run, tomogram: Tomogram, picks: Mapping[str, np.ndarray]) -> tuple[LazyArray, str]:
        """The prepared mask where it is that of the picks, else one painted when it is cut, and the reason for it."""
        path = self._mask_path(run)
        made_from = {
            "shape_zyx": tomogram.shape_zyx,
            "picks": picks,
            "voxel_spacing_angstrom": tomogram.voxel_spacing_angstrom,
            "radius_fraction": self.radius_fraction,
            "particles": self.particles,
        }
        painted = LazyArray(tomogram.shape_zyx, partial(make_mask, **made_from))
        if not self.masks_given and not path.is_file():
            return painted, "is missing" if path.parent.is_dir() else ""
        try:
            mask = read_mask(path, tomogram.shape_zyx)
            other, damaged = difference(path, mask_record(**made_from)), is_damaged(path, mask)
            # The same mask may be made of a voxel size that is rounded otherwise, or by an earlier version.
            if (other is None and damaged is False) or np.array_equal(mask, make_mask(**made_from)):
                return LazyArray(mask.shape, partial(read_mask, path, mask.shape)), ""
            problem = "is damaged" if damaged else f"was made from {other}, and differs from what these picks give"
            raise InputError(
                f"{path} {problem}; run prepare_mask_czi.py again with --output_dir {self.mask_root}, "
                "or train without --mask_dir"
            )
        except InputError:
            if self.masks_given:
                raise
            return painted, "is not that of the picks"

    def _open(self, run: Run) -> dict[str, Tomogram]:
        tomograms = {
            tomo_type: open_tomogram(
                run.tomogram_path(tomo_type),
                voxel_spacing_angstrom=self.voxel_spacing_angstrom,
                rescale_to_angstrom=self.rescale_to_angstrom,
            )
            for tomo_type in self.types_of(run)
        }
        first = next(iter(tomograms.values()))
        for other in tomograms.values():
            if other.shape_zyx != first.shape_zyx:
                raise InputError(
                    f"{other.path} has shape {other.shape_zyx}, {first.path} has {first.shape_zyx}; "
                    "tomogram types trained on together must share their grid"
                )
        return tomograms


def training_runs(data_root: Path, tomo_types: Sequence[str]) -> list[Run]:
    """The runs with a tomogram of any of the types, sorted by name; InputError for a type that no run has."""
    found: dict[str, Run] = {}
    for tomo_type in tomo_types:
        for run in find_runs(data_root, tomo_type=tomo_type, split="train"):
            known = found[run.name].tomogram_paths if run.name in found else {}
            found[run.name] = replace(run, tomogram_paths={**run.tomogram_paths, **known})
    return [found[name] for name in sorted(found)]


def types_of(run: Run, tomo_types: Sequence[str]) -> list[str]:
    """Those of the types that a run of :func:`training_runs` has."""
    return [tomo_type for tomo_type in tomo_types if tomo_type in run.tomogram_paths]


def run_content(picks: Mapping[str, np.ndarray], tomogram: Tomogram) -> str:
    """32 hex digits by which a run is known again: its points, and the shape and voxel size of its tomogram."""
    return hash_of([points_hash(picks), list(tomogram.shape_zyx), tomogram.voxel_spacing_angstrom])


def check_same_content(before: Mapping[str, str], now: Mapping[str, str], what: str, advice: str) -> None:
    """InputError when two sets of runs (name -> :func:`run_content`) differ: what is wrong, where, what to do."""
    for problem, names in (
        ("has no", before.keys() - now.keys()),
        ("has a further", now.keys() - before.keys()),
        ("has other picks, shape or voxel size of", {name for name in before if before[name] != now.get(name)}),
    ):
        if names:
            listed = ", ".join(sorted(names)[:3]) + (", ..." if len(names) > 3 else "")
            raise InputError(f"{what}: it {problem} run {listed}; {advice}")


def check_same_spacing(volumes: Sequence[TrainingVolume | Labels]) -> None:
    """InputError when the tomograms of a training set do not share their voxel size."""
    first = volumes[0]
    for other in volumes[1:]:
        if abs(other.voxel_spacing_angstrom / first.voxel_spacing_angstrom - 1) > SPACING_TOLERANCE:
            raise InputError(
                f"{other.run_name} has {other.voxel_spacing_angstrom:g} A per voxel, {first.run_name} has "
                f"{first.voxel_spacing_angstrom:g}; train on tomograms of one voxel size, or resample with --rescale"
            )
