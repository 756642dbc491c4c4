"""Marker sets of ChimeraX (.cmm): angstrom, position plus the origin in the MRC header of the map."""

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np

from errors import InputError
from formats.point_groups import MAP_ANGSTROM, PointGroup, read_text

SET, MARKER, AXES = "marker_set", "marker", ("x", "y", "z")
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
