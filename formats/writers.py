"""Picks into the formats of other programs: the writers by the names of ``--formats``."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from data.content_hash import hash_of, table_hash
from data.files import atomic_path
from errors import InputError, raise_scarcity
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

# What names of tomograms must not hold, where a format has no way to write it.
CHECKS = dict.fromkeys(("relion5", "relion3", "warp"), star.check_text)
CHECKS |= dict.fromkeys(("dynamo", "motl"), dynamo.check_text)

# In the folder of all formats: which files there are ours.
WRITTEN = ".formats.json"


def write_formats(names: Sequence[str], output_dir: Path, export: Export) -> dict[str, list[Command]]:
    """Write ``{output_dir}/{format}/`` for each name of WRITERS; the next commands of each.

    Raises
    ------
    InputError : nowhere to write, a name that a format cannot hold, or two tomograms or particles whose files would
        have one name.
    """
    check_file_names([one.name for one in export.tomograms], [one.name for one in export.particles], names)
    return {name: WRITERS[name](output_dir / name, export) for name in names}


@dataclass(frozen=True)
class Written:
    """What is in the folder of all formats: ours by the path, and of which picks."""

    picks: str
    files: tuple[str, ...]

    @classmethod
    def read(cls, path: Path) -> "Written":
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            files = tuple(one for one in content["files"] if ".." not in Path(one).parts)
            return cls(str(content["picks"]), files)
        except (OSError, ValueError, TypeError, KeyError) as error:  # none, or damaged: then nothing is taken for ours
            raise_scarcity(error)
            return cls("", ())


def bring_up_to_date(
    names: Sequence[str], output_dir: Path, export: Export
) -> tuple[dict[str, list[Command]], tuple[str, ...]]:
    """Write the formats that are asked for, so that no file of ours there is of other picks.

    Files of ours that are not written again, such as those of a tomogram without picks, are removed; others that lie
    there stay. Formats that an earlier call wrote stay where the picks are the same, and are removed where not.

    Returns
    -------
    The next commands of each format, and the names of the formats that were removed. InputError as
    :func:`write_formats`.
    """
    manifest, picks = output_dir / WRITTEN, _hash_of_picks(export)
    ours = Written.read(manifest)
    before = _states(output_dir)
    commands = write_formats(names, output_dir, export)
    after = _states(output_dir)
    outdated = [
        path
        for path in ours.files
        if path in after and after[path] == before.get(path) and (path.split("/")[0] in names or ours.picks != picks)
    ]
    for path in outdated:
        (output_dir / path).unlink()
        del after[path]
    files = sorted(path for path in after if path in ours.files or after[path] != before.get(path))
    with atomic_path(manifest) as temporary:
        temporary.write_text(json.dumps({"picks": picks, "files": files}) + "\n", encoding="utf-8")
    return commands, tuple(sorted({path.split("/")[0] for path in outdated} - set(names)))


def _hash_of_picks(export: Export) -> str:
    tomograms = [(one.name, str(one.path), table_hash(export.table(one))) for one in export.tomograms]
    return hash_of([tomograms, [particle.name for particle in export.particles]])


def _states(output_dir: Path) -> dict[str, tuple[int, int]]:
    """File of a format -> what changes when it is written again; nothing behind links, which are to tomograms."""
    walks = (os.walk(output_dir / name, followlinks=False) for name in WRITERS)
    files = [Path(folder, file) for walk in walks for folder, _, inside in walk for file in inside]
    states = {path: path.lstat() for path in files if not path.is_symlink()}
    return {path.relative_to(output_dir).as_posix(): (one.st_mtime_ns, one.st_ino) for path, one in states.items()}


def next_commands(commands: Mapping[str, Sequence[Command]]) -> str:
    """The commands as a person reads them, a line each; empty where there are none."""
    lines = [f"  {name}: {one}" for name, here in commands.items() for one in here]
    return "\n".join(["next:", *lines]) if lines else ""


def check_file_names(tomograms: Sequence[str], particles: Sequence[str], formats: Sequence[str]) -> None:
    """InputError for two whose files would have one name, or a tomogram whose name one of the formats cannot hold."""
    for check in {CHECKS[name] for name in formats if name in CHECKS}:
        for name in tomograms:
            check(name)
    for kind, names in (("tomograms", tomograms), ("particles", particles)):
        by_file: dict[str, str] = {}
        for name in names:
            other = by_file.setdefault(safe_name(name), name)
            if other != name:
                raise InputError(f"{kind} {other!r} and {name!r} would have files of one name; rename one of them")
