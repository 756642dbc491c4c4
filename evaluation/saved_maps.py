"""Probability maps as files for other programs: what is saved, where, and whether it is still right.

    {folder}/{run}/{particle}.mrc    probabilities: mode 2 (float32), one file a particle
    {folder}/{run}/labels.mrc        labels: mode 0 (int8; mode 1 from 128 particles on)
    {folder}/{run}.zarr              OME-Zarr: a channel a particle (float32), or one image of labels (uint8)

The maps lie on the grid of the networks' output, not resampled: at output stride s their voxels are s times as wide as
those of the tomogram, and the first one is the block of the tomogram's first s x s x s voxels. Its centre is
(s - 1) / 2 voxels beyond that of the tomogram's first voxel: origin and translation say so, and count the origin that
the tomogram's own file has.

Probabilities are floats: 3dmod, ChimeraX and Warp all read mode 2, a contour at 0.5 is a probability of 0.5, and
programs disagree whether bytes are signed. Labels are the numbers of the particle table, mostly below 128, which signed
and unsigned bytes hold alike.
"""

import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from data.content_hash import hash_of
from data.files import atomic_path
from data.map_origin import map_origin_xyz_angstrom
from data.volume_files import VolumeGrid, channel_attributes, label_attributes, write_mrc, write_ome_zarr
from errors import raise_scarcity
from evaluation.finished import FINISHED, TomogramInput, finishing, map_ingredients
from inference.maps.network_maps import NetworkMaps
from inference.predictor import Prediction
from inference.settings import InferenceSettings
from inference.tomograms import SourceTomogram
from particle_config import Particle

# Part of every key: count up when the same map would be written otherwise.
FORMAT = 1
MRC, ZARR = MAP_FORMATS = ("mrc", "zarr")
PROBABILITY, LABELS = MAP_KINDS = ("probability", "labels")
ZARR_SUFFIX = ".zarr"
# In the attributes of a zarr: what FINISHED holds in a folder of MRC files.
ATTRIBUTE = "etfinder"


@dataclass(frozen=True)
class SavedMaps:
    """Where maps are saved, and which.

    Attributes
    ----------
    folder : of all tomograms
    format : one of MAP_FORMATS; None: none are saved, and those of other commands stay as long as they are right
    kind : one of MAP_KINDS
    """

    folder: Path
    format: str | None = None
    kind: str = PROBABILITY

    def path(self, run_name: str) -> Path:
        """What is written for a tomogram."""
        return self._places(run_name)[self.format]

    def _places(self, run_name: str) -> dict[str, Path]:
        return {MRC: self.folder / run_name, ZARR: self.folder / f"{run_name}{ZARR_SUFFIX}"}

    def are_finished(self, run_name: str, key: str, particles: Sequence[Particle]) -> bool:
        """Whether all that is asked for is there, of that key."""
        path = self.path(run_name)
        if _notes(path) != {"key": key, "kind": self.kind}:
            return False
        if self.format == ZARR:
            return (path / "0" / ".zarray").is_file()
        return all((path / f"{name}.mrc").is_file() for name in _mrc_names(self.kind, particles))

    def remove_outdated(self, run_name: str, key: str) -> None:
        """Remove what was saved of other networks, or of another tomogram of that name."""
        for path in self._places(run_name).values():
            if path.exists() and _notes(path).get("key") != key:
                shutil.rmtree(path)

    def write(self, prediction: Prediction, source: SourceTomogram, key: str, particles: Sequence[Particle]) -> None:
        """Write what is asked for as a whole or not at all; InputError where the disk is full."""
        grid, path = grid_of(prediction, source), self.path(source.name)
        if self.format == ZARR:
            with atomic_path(path) as temporary:
                _write_zarr(temporary, prediction, grid, self.kind, particles, {"key": key, "kind": self.kind})
        else:
            with finishing(path, key, kind=self.kind) as folder:
                _write_mrc(folder, prediction, grid, self.kind, particles)


def map_key(
    tomogram: TomogramInput, inference: InferenceSettings, maps: NetworkMaps, particles: Sequence[Particle]
) -> str:
    """32 hex digits of all that saved maps depend on."""
    table = [(p.name, p.label, p.colour) for p in particles]
    return hash_of({"format": FORMAT, **map_ingredients(tomogram, inference, maps), "particles": table})


def grid_of(prediction: Prediction, source: SourceTomogram) -> VolumeGrid:
    """Where the voxels of a map lie, in the coordinates that the tomogram's file is shown in."""
    spacing, stride = source.voxel_spacing_angstrom, prediction.stride
    # Resampling keeps the centre of the first voxel, whatever the sizes of voxels in the file are.
    first_zyx = map_origin_xyz_angstrom(source.tomogram.path)[::-1]
    shift = (stride - 1) / 2 * spacing
    shape = tuple(prediction.probability.shape[1:])
    return VolumeGrid(shape, stride * spacing, tuple(place + shift for place in first_zyx))


@torch.inference_mode()
def label_map(probability: Tensor) -> np.ndarray:
    """The class of the highest probability in every voxel.

    Parameters
    ----------
    probability : (C, Z, Y, X), background first

    Returns
    -------
    (Z, Y, X) uint8 on the CPU, 0 for background; of equal classes the first.
    """
    best = probability[0].clone()
    labels = torch.zeros(best.shape, dtype=torch.uint8, device=best.device)
    for label, one in enumerate(probability[1:], start=1):
        labels[one > best] = label
        torch.maximum(best, one, out=best)
    return labels.cpu().numpy()


def _mrc_names(kind: str, particles: Sequence[Particle]) -> list[str]:
    return [particle.name for particle in particles] if kind == PROBABILITY else [LABELS]


def _write_mrc(
    folder: Path, prediction: Prediction, grid: VolumeGrid, kind: str, particles: Sequence[Particle]
) -> None:
    if kind == LABELS:
        signed = np.min_scalar_type(-len(particles) - 1)  # int8 up to label 127, then int16
        text = ", ".join(f"{particle.label} {particle.name}" for particle in particles)
        write_mrc(folder / f"{LABELS}.mrc", label_map(prediction.probability).astype(signed), grid, text=text)
        return
    for particle, volume in zip(particles, _one_by_one(prediction, particles), strict=True):
        write_mrc(folder / f"{particle.name}.mrc", volume, grid, text=f"probability of {particle.name}")


def _write_zarr(
    path: Path, prediction: Prediction, grid: VolumeGrid, kind: str, particles: Sequence[Particle], notes: dict
) -> None:
    if kind == LABELS:
        volumes, options = [label_map(prediction.probability)], {"dtype": "uint8"}
        names, colours = ({p.label: getattr(p, field) for p in particles} for field in ("name", "colour"))
        attributes = label_attributes(names, colours)
    else:
        volumes, options = _one_by_one(prediction, particles), {"dtype": "float32", "channels": len(particles)}
        names, colours = ([getattr(p, field) for p in particles] for field in ("name", "colour"))
        attributes = channel_attributes(names, colours, depth=grid.shape_zyx[0])
    write_ome_zarr(path, volumes, grid, attributes={**attributes, ATTRIBUTE: notes}, **options)


def _one_by_one(prediction: Prediction, particles: Sequence[Particle]) -> Iterator[np.ndarray]:
    """(Z, Y, X) of each particle; no more than one is copied from the device at a time."""
    for particle in particles:
        yield prediction.probability[particle.label].cpu().numpy()


def _notes(path: Path) -> dict:
    """Key and kind of what was saved; empty where there is nothing whole."""
    try:
        if path.suffix == ZARR_SUFFIX:
            notes = json.loads((path / ".zattrs").read_text(encoding="utf-8"))[ATTRIBUTE]
        else:
            notes = json.loads((path / FINISHED).read_text(encoding="utf-8"))
    except (OSError, ValueError, KeyError, TypeError) as error:  # none, or damaged: made again
        raise_scarcity(error)
        return {}
    return {name: notes.get(name) for name in ("key", "kind")} if isinstance(notes, dict) else {}
