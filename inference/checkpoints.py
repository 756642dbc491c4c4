"""Checkpoints that describe themselves: nobody guesses what a network was trained on."""

import pickle
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import nn

from data.training_volume import SPACING_TOLERANCE
from errors import InputError
from models import model_from_description
from particle_config import PARTICLES, TABLE_SOURCE, Particle, table_as_dicts, table_from_dicts
from tta.orientations import beam_axis

KEY = "etfinder"
# Raised when a field changes its meaning; newer ones are refused.
FORMAT = 1
# Where the LightningModule keeps the network.
NETWORK_PREFIX = "network."


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

    def as_plain(self) -> dict:
        """Plain values only, so that the file loads with weights_only=True."""
        return {**asdict(self), "particles": table_as_dicts(self.particles), "format": FORMAT}

    @classmethod
    def from_plain(cls, values: Mapping) -> "Description":
        known = {field.name for field in fields(cls)}
        found = {name: value for name, value in values.items() if name in known}  # later versions may add some
        if "validation_runs" not in found:  # of a version that held out one run by fold
            found["validation_runs"] = [values["validation_run"]]
        names = ("patch_size_zyx", "norm_percentiles", "tomo_types", "training_runs", "validation_runs")
        tuples = {name: tuple(found[name]) for name in names if found.get(name) is not None}
        return cls(**{**found, **tuples, "particles": table_from_dicts(found["particles"])})


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
        raise InputError(f"{path} holds a network that this version cannot build ({_first_line(error)})") from None
    weights = {
        name.removeprefix(NETWORK_PREFIX): value
        for name, value in checkpoint["state_dict"].items()
        if name.startswith(NETWORK_PREFIX)
    }
    try:
        network.load_state_dict(weights)
    except RuntimeError:
        raise InputError(f"{path}: its weights do not fit the network that it describes; is it damaged?") from None
    return network.eval(), description


def read_description(path: Path) -> Description:
    """What a checkpoint says about itself, without building its network."""
    return _read(path)[1]


def _read(path: Path) -> tuple[dict, Description]:
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise InputError(f"checkpoint {path} does not exist") from None
    except (RuntimeError, EOFError, OSError, pickle.UnpicklingError, KeyError, ValueError) as error:
        raise InputError(f"{path} cannot be read as a checkpoint ({_first_line(error)}); is it complete?") from None
    if not isinstance(checkpoint, dict) or KEY not in checkpoint:
        raise InputError(f"{path} was not written by train.py: it does not describe its network")
    written = checkpoint[KEY].get("format", FORMAT)
    if written > FORMAT:
        raise InputError(
            f"{path} is a checkpoint of format {written}, and this version reads formats up to {FORMAT}; "
            "use the version that wrote it, or a newer one"
        )
    try:
        return checkpoint, Description.from_plain(checkpoint[KEY])
    except (InputError, KeyError, TypeError) as error:
        raise InputError(f"{path} does not describe its network whole ({_first_line(error)})") from None


def find_checkpoints(path: Path) -> list[Path]:
    """The checkpoint itself, or those of a folder to be averaged: each fold's best generalist, else all of them."""
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise InputError(f"--model_path {path} does not exist")
    found = sorted(path.glob("*.ckpt"))
    if not found:
        raise InputError(f"--model_path {path} holds no .ckpt file")
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


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:120]
