"""What the CryoET Data Portal writes in JSON beside a tomogram or an annotation."""

from pathlib import Path

from data.number_ranges import VOXEL_SIZE
from data.text_files import read_json

TOMOGRAM_METADATA = "tomogram_metadata.json"


def read_metadata(path: Path) -> dict:
    """The portal's JSON about a tomogram or an annotation; empty when there is none."""
    content = read_json(path, advice="fetch it again") if path.is_file() else {}
    return content if isinstance(content, dict) else {}


def spacing_of_metadata(tomogram: Path) -> float | None:
    """The ``voxel_spacing`` in angstrom of the JSON beside a tomogram; None where it is not said."""
    value = read_metadata(tomogram.with_name(TOMOGRAM_METADATA)).get("voxel_spacing")
    return float(value) if value in VOXEL_SIZE else None
