"""Marker sets of ChimeraX (.cmm): angstrom, position plus the origin of the map.

The origin is where ChimeraX puts the tomogram's first voxel, see data.map_origin. Attributes of a marker that ChimeraX
does not know are kept (markers/src/cmmfiles.py): the score and the confidence are written as such.
"""

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np

from data.files import atomic_path
from data.map_origin import map_origin_xyz_angstrom
from data.picks import Picks
from data.text_files import read_text
from errors import InputError
from formats.export import Export, colour_fractions
from formats.next_command import Command, quoted, shell_command
from formats.point_groups import MAP_ANGSTROM, PointGroup
from formats.tomogram_names import safe_name
from particle_config import Particle

SET, MARKER, AXES = "marker_set", "marker", ("x", "y", "z")
COLOUR, RADIUS, SCORE, CONFIDENCE = ("r", "g", "b"), "radius", "score", "confidence"
SUFFIXES = (".cmm",)


def recognises(path: Path) -> bool:
    return path.name.lower().endswith(SUFFIXES)


def read(path: Path) -> list[PointGroup]:
    """One group a marker set; its name is the particle's."""
    try:
        root = ElementTree.fromstring(read_text(path))
        groups = []
        for one in root.iter(SET):
            points = [[float(marker.attrib[axis]) for axis in AXES] for marker in one.iter(MARKER)]
            name = one.get("name") or None
            groups.append(PointGroup(path, np.array(points).reshape(-1, 3), MAP_ANGSTROM, particle_name=name))
    except (ElementTree.ParseError, KeyError, ValueError) as error:
        raise InputError(f"{path}: not a readable marker file ({error}); save the markers again") from error
    return groups


def write(folder: Path, export: Export) -> list[Command]:
    """``{tomogram}_{particle}.cmm``, and ``open_{tomogram}.cxc``, which opens the tomogram and its markers.

    ChimeraX runs a .cxc in its own folder (ChimeraX: core/scripting.py), so that the markers may be moved with it.
    """
    for tomogram in export.tomograms:
        name, origin = safe_name(tomogram.name), np.array(map_origin_xyz_angstrom(tomogram.path))
        lines = [_open_tomogram(tomogram.path), "volume #1 style image"]
        for particle, picks in export.of_tomogram(tomogram):
            path = folder / f"{name}_{safe_name(particle.name)}.cmm"
            with atomic_path(path) as temporary:
                _marker_set(particle, picks, origin).write(temporary, encoding="utf-8")
            lines.append(f"open {quoted(path.name)}")
        with atomic_path(folder / f"open_{name}.cxc") as temporary:
            temporary.write_text("\n".join([*lines, "view"]) + "\n", encoding="utf-8")
    example = export.example_tomogram()
    if example is None:
        return []
    return [shell_command("chimerax", folder.absolute() / f"open_{safe_name(example.name)}.cxc")]


def _open_tomogram(path: Path) -> str:
    """Zarr needs the bundle OME-Zarr, which takes a coarse level unless told (github.com/uermel/chimerax-ome-zarr)."""
    return f"open {quoted(path)}{' format zarr scales 0' if path.suffix == '.zarr' else ''}"


def _marker_set(particle: Particle, picks: Picks, origin_xyz: np.ndarray) -> ElementTree.ElementTree:
    root = ElementTree.Element(SET, name=particle.name)
    look = dict(zip(COLOUR, (f"{value:.4g}" for value in colour_fractions(particle)), strict=True))
    look[RADIUS] = f"{particle.radius_angstrom:g}"
    known = {key: v for key, v in ((SCORE, picks.scores), (CONFIDENCE, picks.confidences)) if v is not None}
    points = picks.coordinates_zyx_angstrom[:, ::-1] + origin_xyz
    for number, point in enumerate(points.tolist()):
        place = {axis: f"{value:.4f}" for axis, value in zip(AXES, point, strict=True)}
        values = {key: f"{array[number]:.4f}" for key, array in known.items() if np.isfinite(array[number])}
        ElementTree.SubElement(root, MARKER, id=str(number + 1), **place, **look, **values)
    ElementTree.indent(root)
    return ElementTree.ElementTree(root)
