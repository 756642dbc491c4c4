"""Info files of EMAN2 (info/{tomogram}_info.json): boxes_3d rows [x, y, z, method, score, class].

With apix_unbin the coordinates are unbinned pixels from the middle voxel n // 2 of the tomogram (e2spt_boxer), else
pixels of the tomogram from its first voxel.
"""

import json
from pathlib import Path

import numpy as np

from errors import InputError
from formats.point_groups import CENTRED_PIXELS, PIXELS, PointGroup, read_text, split_groups

BOXES, CLASSES, PIXEL_SIZE = "boxes_3d", "class_list", "apix_unbin"
ENDING = "_info.json"
SUFFIXES = (ENDING,)


def recognises(path: Path) -> bool:
    return path.name.lower().endswith(SUFFIXES)


def read(path: Path) -> list[PointGroup]:
    """The tomogram's name is that of the file without ``_info.json``; classes have the names of class_list."""
    try:
        content = json.loads(read_text(path))
        boxes = content.get(BOXES, [])
        points = np.array([box[:3] for box in boxes], dtype=np.float64).reshape(-1, 3)
        classes = {int(number): one["name"] for number, one in content.get(CLASSES, {}).items()}
        particles = [classes.get(int(box[5])) if len(box) > 5 else None for box in boxes]
        scores = np.array([box[4] if len(box) > 4 else np.nan for box in boxes], dtype=np.float64)
        pixel = float(content[PIXEL_SIZE]) if content.get(PIXEL_SIZE) else None
    except (ValueError, TypeError, AttributeError, KeyError, IndexError) as error:
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
