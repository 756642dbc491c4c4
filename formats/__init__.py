"""Picks in the formats of other programs: one file a format; ``read_points`` reads any, ``write_formats`` writes."""

from pathlib import Path

from errors import InputError, raise_scarcity
from formats import chimerax, copick, dynamo, eman2, imod, motl, portal, star, table
from formats.point_groups import PointGroup

# Each module has SUFFIXES, recognises(path) and read(path).
FORMATS = {
    "star": star,
    "table": table,
    "eman2": eman2,
    "copick": copick,
    "portal": portal,
    "imod": imod,
    "dynamo": dynamo,
    "motl": motl,
    "chimerax": chimerax,
}
PICKS_SUFFIXES = tuple(sorted({suffix for module in FORMATS.values() for suffix in module.SUFFIXES}))


def format_of(path: Path) -> str:
    """The name of the file's format, by its suffix and, without a known one, its first bytes."""
    for name, module in FORMATS.items():
        if module.recognises(path):
            return name
    try:
        with path.open("rb") as file:
            head = file.read(200)
    except OSError as error:
        raise_scarcity(error)
        raise InputError(f"{path}: not a readable picks file ({error.strerror}); check the path") from error
    begins = {b"IMOD": "imod", b"<marker_set": "chimerax", b"data_": "star"}
    found = [name for mark, name in begins.items() if mark in head]
    if found:
        return found[0]
    raise InputError(f"{path}: format not recognised; name it with --picks_format ({', '.join(FORMATS)})")


def read_points(path: Path, *, format_name: str | None = None, tomograms_star: Path | None = None) -> list[PointGroup]:
    """The points of a picks file, one group for each tomogram and particle in it.

    Parameters
    ----------
    format_name : a key of FORMATS; None to recognise it.
    tomograms_star : sizes of the volumes that centred coordinates of RELION 5 refer to.

    Raises
    ------
    InputError : no such file, an unknown format, or a file that its format's reader cannot read.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such picks file; check the path")
    module = FORMATS[format_name or format_of(path)]
    return module.read(path, tomograms_star=tomograms_star) if module is star else module.read(path)
