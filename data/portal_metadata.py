"""What the CryoET Data Portal writes in JSON beside a tomogram or an annotation."""

import math
from pathlib import Path

from data.text_files import read_json

TOMOGRAM_METADATA = "tomogram_metadata.json"


def read_metadata(path: Path) -> dict:
    """The portal's JSON about a tomogram or an annotation; empty when there is none."""
    content = read_json(path, advice="fetch it again") if path.is_file() else {}
    return content if isinstance(content, dict) else {}


def spacing_of_metadata(tomogram: Path) -> float | None:
    """The ``voxel_spacing`` in angstrom of the JSON beside a tomogram; None where it is not said."""
    value = read_metadata(tomogram.with_name(TOMOGRAM_METADATA)).get("voxel_spacing")
    is_size = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value > 0
    return float(value) if is_size else None
