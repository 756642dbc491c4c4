"""Info files of EMAN2 (info/{tomogram}_info.json): boxes_3d rows [x, y, z, method, score, class].

With apix_unbin the coordinates are unbinned pixels from the middle voxel n // 2 of the tomogram, and the sizes of
boxes are unbinned pixels; else pixels of the tomogram from its first voxel (eman2: programs/e2spt_boxer.py). A file
that is there keeps what else it holds, such as the alignment of the tilt series and boxes of other particles.
"""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from data.files import atomic_path
from data.number_ranges import VOXEL_SIZE
from data.picks import Picks
from data.text_files import read_json_object
from errors import InputError
from formats.export import Export, PickedTomogram, box_size, scores_of
from formats.next_command import Command, shell_command
from formats.point_groups import CENTRED_PIXELS, PIXELS, PointGroup, split_groups
from formats.tomogram_names import safe_name

BOXES, CLASSES, PIXEL_SIZE = "boxes_3d", "class_list", "apix_unbin"
NAME, BOX_SIZE, METHOD, CLASS_OF_BOX = "name", "boxsize", "manual", 5
ENDING = "_info.json"
SUFFIXES = (ENDING,)


def recognises(path: Path) -> bool:
    return path.name.lower().endswith(SUFFIXES)


def read(path: Path) -> list[PointGroup]:
    """The tomogram's name is that of the file without ``_info.json``; classes have the names of class_list."""
    try:
        content = read_json_object(path)
        boxes = content.get(BOXES, [])
        points = np.array([box[:3] for box in boxes], dtype=np.float64).reshape(-1, 3)
        classes = {int(number): one[NAME] for number, one in content.get(CLASSES, {}).items()}
        if wrong := [name for name in classes.values() if not isinstance(name, str)]:
            raise ValueError(f"{wrong[0]!r} is no name of a class")
        particles = [classes.get(int(box[CLASS_OF_BOX])) if len(box) > CLASS_OF_BOX else None for box in boxes]
        scores = np.array([box[4] if len(box) > 4 else np.nan for box in boxes], dtype=np.float64)
        pixel = _pixel_size(content)
    except (ValueError, TypeError, AttributeError, KeyError, IndexError, OverflowError) as error:
        raise InputError(f"{path}: not a readable EMAN2 info file ({error}); save the boxes again") from error
    return split_groups(
        path,
        points,
        PIXELS if pixel is None else CENTRED_PIXELS,
        tomogram_names=[path.name[: -len(ENDING)]] * len(points),
        particle_names=particles,
        scores=scores,
        pixel_sizes_angstrom=[pixel] * len(points),
    )


def write(folder: Path, export: Export) -> list[Command]:
    """``info/{tomogram}_info.json``; InputError for one that is there and cannot be read."""
    for tomogram in export.tomograms:
        path = folder / "info" / f"{safe_name(tomogram.name)}{ENDING}"
        content = _existing(path)
        pixel = _pixel_size(content) or export.series[tomogram.name].pixel_size_angstrom
        if pixel is not None:
            content[PIXEL_SIZE] = pixel
        for particle, picks in export.of_tomogram(tomogram):
            box = box_size(particle.radius_angstrom, pixel or tomogram.voxel_size_angstrom)
            _put(content, {NAME: particle.name, BOX_SIZE: box}, _boxes(tomogram, picks, pixel))
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(content, indent=1), encoding="utf-8")
    example = export.example_tomogram()
    if example is None:
        return []
    boxer = shell_command("e2spt_boxer.py", example.path, tomogram=example)
    return [replace(boxer, line=f"{shell_command('cd', folder.absolute()).line} && {boxer.line}")]


def _existing(path: Path) -> dict:
    if not path.is_file():
        return {}
    try:
        content = read_json_object(path)
        [int(box[CLASS_OF_BOX]) for box in content.get(BOXES, [])]
        [(int(number), one[NAME]) for number, one in content.get(CLASSES, {}).items()]
        _pixel_size(content)
    except (ValueError, TypeError, AttributeError, KeyError, IndexError, OverflowError) as error:
        raise InputError(f"{path}: not a readable EMAN2 info file ({error}); move it elsewhere") from error
    return content


def _pixel_size(content: dict) -> float | None:
    """Angstrom; None where it is not known, ValueError for a size that no pixel has."""
    pixel = float(content.get(PIXEL_SIZE) or 0.0)
    if pixel and pixel not in VOXEL_SIZE:
        raise ValueError(f"{PIXEL_SIZE} must be {VOXEL_SIZE}, not {pixel:g}")
    return pixel or None


def _boxes(tomogram: PickedTomogram, picks: Picks, pixel_angstrom: float | None) -> list[list]:
    points = tomogram.voxels_xyz(picks)
    if pixel_angstrom is not None:
        middle = np.array(tomogram.size_xyz) // 2
        points = (points - middle) * tomogram.voxel_size_zyx_angstrom[::-1] / pixel_angstrom
    return [[*point, METHOD, score] for point, score in zip(points.tolist(), scores_of(picks).tolist(), strict=True)]


def _put(content: dict, one: dict, boxes: list[list]) -> None:
    """Boxes of a class, in the place of those of the class of that name where it is there."""
    classes = content.setdefault(CLASSES, {})
    unused = max((int(key) for key in classes), default=-1) + 1
    number = next((int(key) for key, other in classes.items() if other[NAME] == one[NAME]), unused)
    classes[str(number)] = one
    others = [box for box in content.get(BOXES, []) if int(box[CLASS_OF_BOX]) != number]
    content[BOXES] = others + [[*box, number] for box in boxes]
