"""Picks into the formats of other programs: the writers by the names of ``--formats``."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from errors import InputError
from formats import chimerax, copick, dynamo, eman2, imod, motl, napari, portal, star, table
from formats.export import Export
from formats.next_command import Command
from formats.tomogram_names import safe_name

# Each writes into a folder, every file atomically, and returns the next commands: none where nothing was
# found. Files there that it does not write again stay.
Writer = Callable[[Path, Export], list[Command]]

WRITERS: dict[str, Writer] = {
    "relion5": star.write_relion5,
    "relion3": star.write_relion3,
    "warp": star.write_warp,
    "copick": copick.write,
    "ndjson": portal.write,
    "csv": table.write,
    "imod": imod.write,
    "dynamo": dynamo.write,
    "motl": motl.write,
    "eman": eman2.write,
    "chimerax": chimerax.write,
    "napari": napari.write,
}


def write_formats(names: Sequence[str], output_dir: Path, export: Export) -> dict[str, list[Command]]:
    """Write ``{output_dir}/{format}/`` for each name of WRITERS; the next commands of each.

    Raises
    ------
    InputError : nowhere to write, or two tomograms or particles whose files would have one name.
    """
    for kind, given in (("tomograms", export.tomograms), ("particles", export.particles)):
        _check_file_names(kind, [one.name for one in given])
    return {name: WRITERS[name](output_dir / name, export) for name in names}


def next_commands(commands: Mapping[str, Sequence[Command]]) -> str:
    """The commands as a person reads them, a line each; empty where there are none."""
    lines = [f"  {name}: {one}" for name, here in commands.items() for one in here]
    return "\n".join(["next:", *lines]) if lines else ""


def _check_file_names(kind: str, names: Sequence[str]) -> None:
    by_file: dict[str, str] = {}
    for name in names:
        other = by_file.setdefault(safe_name(name), name)
        if other != name:
            raise InputError(f"{kind} {other!r} and {name!r} would have files of one name; rename one of them")
