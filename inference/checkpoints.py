"""Checkpoints that describe themselves: nobody guesses what a network was trained on."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import nn

from data.files import entries
from data.spectrum import SHELLS
from data.text_files import is_finite_number
from data.training_volume import SPACING_TOLERANCE
from errors import InputError, raise_scarcity
from inference.checkpoint_files import BEST_CHECKPOINT, best_checkpoints, first_line, read_checkpoint_file
from models import ENCODERS, model_from_description
from particle_config import PARTICLES, TABLE_SOURCE, Particle, check_table, table_as_dicts, table_from_dicts
from tta.orientations import TILT_AXES, beam_axis

KEY = "etfinder"
# Raised when a field changes its meaning; newer ones are refused.
FORMAT = 1
# Where the LightningModule keeps the network.
NETWORK_PREFIX = "network."


def _is_number(value: object, low: float = -math.inf) -> bool:
    return is_finite_number(value) and value >= low


def _is_whole(value: object, low: int = 0) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= low


def _are(values: object, kind: Callable[[Any], bool]) -> bool:
    """Whether they are a list or tuple of one or more of a kind."""
    return isinstance(values, list | tuple) and len(values) > 0 and all(kind(value) for value in values)


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_spectrum(values: object) -> bool:
    return _are(values, lambda one: _is_number(one, 0)) and len(values) == SHELLS


def _are_percentiles(values: object) -> bool:
    return _are(values, _is_number) and len(values) == 2 and 0 <= values[0] < values[1] <= 100


def _are_tables(value: object, depth: int = 3) -> bool:
    """Whether it is a number below so many levels of names."""
    if depth == 0:
        return _is_number(value)
    return isinstance(value, Mapping) and all(_is_text(k) and _are_tables(v, depth - 1) for k, v in value.items())


def _is_architecture(value: object) -> bool:
    return isinstance(value, Mapping) and _is_text(value.get("encoder_name")) and value["encoder_name"] in ENCODERS


def _are_rows(values: object) -> bool:
    """Whether they are rows of a particle table, as particle_config.table_as_dicts makes them."""
    return _are(
        values,
        lambda row: (
            isinstance(row, Mapping)
            and all(_is_text(row[key]) for key in ("name", "colour"))
            and all(_is_number(row[key], 0) for key in ("radius_angstrom", "score_weight", "loss_weight"))
            and (not row["aliases"] or _are(row["aliases"], _is_text))
        ),
    )


# Field of a description -> what it must be.
FIELDS: Mapping[str, tuple[str, Callable[[Any], bool]]] = {
    "architecture": (f"the arguments of a network with one of the encoders {', '.join(ENCODERS)}", _is_architecture),
    "particles": ("rows of a particle table", _are_rows),
    "patch_size_zyx": ("three sides in voxels", lambda v: _are(v, lambda side: _is_whole(side, 1)) and len(v) == 3),
    "norm_percentiles": ("two percentiles or nothing", lambda v: v is None or _are_percentiles(v)),
    "radius_fraction": ("a number from 0 up", lambda v: _is_number(v, 0)),
    "tomo_types": ("names", lambda v: _are(v, _is_text)),
    "voxel_spacing_angstrom": ("a number above 0", lambda v: _is_number(v, 0) and v > 0),
    "fold": ("a whole number", _is_whole),
    "validation_runs": ("names", lambda v: _are(v, _is_text)),
    "hyperparameters": ("numbers by method, particle and name", _are_tables),
    "f4": ("a number", lambda v: isinstance(v, int | float)),
    "augmentation_mode": ("a name", _is_text),
    "training_runs": ("names or nothing", lambda v: not v or _are(v, _is_text)),
    "tilt_axis": (f"one of {', '.join(TILT_AXES)}", lambda v: _is_text(v) and v in TILT_AXES),
    "spectrum": (
        f"{SHELLS} numbers from 0 up or nothing",
        lambda v: v is None or _is_spectrum(v),
    ),
    "spectrum_range": (
        f"two times {SHELLS} numbers from 0 up or nothing",
        lambda v: v is None or (_are(v, _is_spectrum) and len(v) == 2),
    ),
    "skewness": ("a number or nothing", lambda v: v is None or _is_number(v)),
    "calibrated_with": ("conditions or nothing", lambda v: v is None or isinstance(v, Mapping)),
}


@dataclass(frozen=True)
class Description:
    """What a checkpoint says about itself.

    Attributes
    ----------
    architecture : arguments of models.model_from_description
    particles : the particle table it was trained with
    patch_size_zyx : voxels
    norm_percentiles : (lower, upper) in percent; None: trained on the tomograms' own grey values
    radius_fraction : of the target spheres; 0 for single voxels
    tomo_types : trained on; the first is the one it was validated on
    voxel_spacing_angstrom : of the training tomograms
    hyperparameters : method -> particle name -> keyword -> value, chosen on the held-out tomograms; the calibration of
        the scores too
    fold, validation_runs : index of the fold, and the names of the runs that it held out
    f4 : weighted F4 on the held-out tomograms at those hyperparameters
    augmentation_mode : of the training; checkpoints from before it was kept count as anisotropic, whose default views
        suit every network
    training_runs : names of the tomograms it was trained on; None: not written down, as in older checkpoints
    tilt_axis : of the training tomograms, a name in tta.orientations.TILT_AXES; y in older checkpoints
    calibrated_with : what the calibrations hold for, see detection.conditions; None: not written down
    spectrum : mean amplitudes of the training tomograms, see data.spectrum; None: not written down
    spectrum_range : least and greatest amplitudes of them, further data included; None: not written down
    skewness : of their grey values at the size of particles; None: not written down
    """

    architecture: Mapping[str, Any]
    particles: tuple[Particle, ...]
    patch_size_zyx: tuple[int, int, int]
    norm_percentiles: tuple[float, float] | None
    radius_fraction: float
    tomo_types: tuple[str, ...]
    voxel_spacing_angstrom: float
    fold: int
    validation_runs: tuple[str, ...]
    hyperparameters: Mapping[str, Mapping[str, Mapping[str, float]]]
    f4: float
    augmentation_mode: str = "anisotropic"
    training_runs: tuple[str, ...] | None = None
    tilt_axis: str = "y"
    calibrated_with: Mapping[str, Any] | None = None
    spectrum: tuple[float, ...] | None = None
    spectrum_range: tuple[tuple[float, ...], tuple[float, ...]] | None = None
    skewness: float | None = None

    def as_plain(self) -> dict:
        """Plain values only, so that the file loads with weights_only=True."""
        plain = {**asdict(self), "particles": table_as_dicts(self.particles)}
        return {**plain, "format": FORMAT, "torch_version": str(torch.__version__)}

    @classmethod
    def from_plain(cls, values: Mapping) -> "Description":
        """InputError for a field that is missing or wrong, or fields that contradict each other."""
        known = {field.name for field in fields(cls)}
        found = {name: value for name, value in values.items() if name in known}  # later versions may add some
        if "validation_runs" not in found:  # of a version that held out one run by fold
            found["validation_runs"] = [values["validation_run"]]
        for field in fields(cls):
            if field.name not in found and field.default is MISSING:
                raise InputError(f"{field.name} is missing")
            what, is_right = FIELDS[field.name]
            if field.name in found and not is_right(found[field.name]):
                raise InputError(f"{field.name} is {str(found[field.name])[:60]!r}, not {what}")
        particles = table_from_dicts(found["particles"])
        check_table(particles, "its particle table")
        # Before a network of any size is built.
        if (classes := found["architecture"].get("num_classes", len(particles) + 1)) != len(particles) + 1:
            raise InputError(f"the network has {classes} classes, the particle table {len(particles)} rows")
        names = ("patch_size_zyx", "norm_percentiles", "tomo_types", "training_runs", "validation_runs", "spectrum")
        tuples = {name: tuple(found[name]) for name in names if found.get(name) is not None}
        if found.get("spectrum_range") is not None:
            tuples["spectrum_range"] = tuple(map(tuple, found["spectrum_range"]))
        return cls(**{**found, **tuples, "particles": particles})


def load_checkpoint(path: Path, particles: Sequence[Particle] = PARTICLES) -> tuple[nn.Module, Description]:
    """The network of a checkpoint, ready to predict, and its description.

    Raises
    ------
    InputError
        Not a checkpoint of this program, damaged, or trained with another particle table.
    """
    checkpoint, description = _read(path)
    check_particles(path, description.particles, particles)
    try:
        network = model_from_description(description.architecture)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path} holds a network that this version cannot build ({first_line(error)})") from None
    try:
        weights = {
            name.removeprefix(NETWORK_PREFIX): value
            for name, value in checkpoint["state_dict"].items()
            if name.startswith(NETWORK_PREFIX)
        }
        network.load_state_dict(weights)
    except (RuntimeError, KeyError, TypeError, AttributeError) as error:
        raise_scarcity(error)
        raise InputError(
            f"{path}: its weights do not fit the network that it describes ({_misfit(error)}; "
            f"{_writer(checkpoint[KEY])}); use the version that wrote it"
        ) from None
    return network.eval(), description


def _misfit(error: Exception) -> str:
    """The first of the weights that torch complains of."""
    lines = [line.strip() for line in str(error).splitlines()]
    return next((line for line in lines[1:] if line), first_line(error))[:120].rstrip(" .")


def _writer(values: Mapping) -> str:
    """Which version wrote a checkpoint, in words."""
    return f"written in format {values.get('format', FORMAT)} with torch {values.get('torch_version', 'unknown')}"


def read_description(path: Path) -> Description:
    """What a checkpoint says about itself, without building its network."""
    return _read(path)[1]


def _read(path: Path) -> tuple[dict, Description]:
    checkpoint = read_checkpoint_file(path)
    if not isinstance(checkpoint.get(KEY), Mapping):
        raise InputError(f"{path} was not written by train.py: it does not describe its network")
    written = checkpoint[KEY].get("format", FORMAT)
    if not _is_whole(written) or written > FORMAT:
        raise InputError(
            f"{path} is a checkpoint of format {written}, and this version reads formats up to {FORMAT}; "
            "use the version that wrote it, or a newer one"
        )
    try:
        return checkpoint, Description.from_plain(checkpoint[KEY])
    except (InputError, KeyError, TypeError, OverflowError) as error:
        words = str(error) if isinstance(error, InputError) else first_line(error)
        problem = f"{words}; {_writer(checkpoint[KEY])}"
        raise InputError(f"{path} does not describe its network whole ({problem})") from None


def find_checkpoints(path: Path, flag: str = "--model_path") -> list[Path]:
    """The checkpoint itself, or those of a folder to be averaged: each fold's best generalist, else all of them.

    Of several best ones of a fold, which a killed run leaves, the best counts. ``flag``: by which the path was given.
    """
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise InputError(f"{flag} {path} does not exist")
    found = entries(path, "*.ckpt")
    if not found:
        raise InputError(f"{flag} {path} holds no .ckpt file")
    best = set(best_checkpoints(path).values())
    found = [checkpoint for checkpoint in found if checkpoint in best or not BEST_CHECKPOINT.fullmatch(checkpoint.name)]
    generalists = [checkpoint for checkpoint in found if "-best-fscore-" in checkpoint.name]
    return generalists or found


def check_agreement(paths: Sequence[Path], descriptions: Sequence[Description]) -> None:
    """Networks of an ensemble must have been trained on the same kind of voxels; InputError names two that differ."""
    first = descriptions[0]
    for path, other in zip(paths[1:], descriptions[1:], strict=True):
        for name, differ in (
            (
                "voxel spacing",
                abs(other.voxel_spacing_angstrom / first.voxel_spacing_angstrom - 1) > SPACING_TOLERANCE,
            ),
            ("normalisation percentiles", other.norm_percentiles != first.norm_percentiles),
            ("radius fraction", other.radius_fraction != first.radius_fraction),
            ("tilt axis", beam_axis(other.tilt_axis) != beam_axis(first.tilt_axis)),
            ("output stride", _output_stride(other) != _output_stride(first)),
        ):
            if differ:
                raise InputError(f"{path.name} and {paths[0].name} differ in {name}; they cannot be averaged")


def _output_stride(description: Description) -> int:
    """Checkpoints from before there was a choice have stride 1."""
    return description.architecture.get("output_stride", 1)


def table_in_use(
    trained: Sequence[Particle], *, given: Sequence[Particle] | None, here: Sequence[Particle]
) -> tuple[Particle, ...]:
    """The particle table that networks are used with.

    Parameters
    ----------
    trained : of the checkpoint
    given : of ETFINDER_PARTICLES, which is used and must agree (:func:`check_particles`); None where it is not set
    here : of particle_config.py, used for its weights, colours and aliases where it speaks of the same particles

    Otherwise the checkpoint's own: somebody else's network needs no table.
    """
    if given is not None:
        return tuple(given)
    same = [(p.name, p.radius_angstrom) for p in trained] == [(p.name, p.radius_angstrom) for p in here]
    return tuple(here if same else trained)


def check_particles(path: Path, trained: Sequence[Particle], here: Sequence[Particle]) -> None:
    """InputError unless channels mean what the table here says; colours, weights and aliases may change."""
    for old, new in zip(trained, here, strict=False):
        if (old.name, old.radius_angstrom) != (new.name, new.radius_angstrom):
            raise InputError(
                f"{path} was trained with another particle table: label {old.label} is {old.name} "
                f"({old.radius_angstrom:g} A) there and {new.name} ({new.radius_angstrom:g} A) in {TABLE_SOURCE}"
            )
    if len(trained) != len(here):
        raise InputError(
            f"{path} was trained with another particle table: {len(trained)} particles there, "
            f"{len(here)} in {TABLE_SOURCE}"
        )
