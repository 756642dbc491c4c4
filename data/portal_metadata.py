"""What the CryoET Data Portal writes in JSON beside a tomogram or an annotation."""

import json
import math
from pathlib import Path

from data.files import read_text
from errors import InputError

TOMOGRAM_METADATA = "tomogram_metadata.json"


def read_metadata(path: Path) -> dict:
    """The portal's JSON about a tomogram or an annotation; empty when there is none."""
    try:
        content = json.loads(read_text(path)) if path.is_file() else {}
    except ValueError as error:
        raise InputError(f"{path}: not readable JSON ({error}); fetch it again") from error
    return content if isinstance(content, dict) else {}


def spacing_of_metadata(tomogram: Path) -> float | None:
    """The ``voxel_spacing`` in angstrom of the JSON beside a tomogram; None where it is not said."""
    value = read_metadata(tomogram.with_name(TOMOGRAM_METADATA)).get("voxel_spacing")
    is_size = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value > 0
    return float(value) if is_size else None
