"""What a person types next: programs, paths and sizes of an export in one line."""

import shlex
from dataclasses import dataclass

from formats.export import PickedTomogram

ARTIAX = "ChimeraX with ArtiaX"


@dataclass(frozen=True)
class Command:
    """What to type next, in one line.

    Attributes
    ----------
    line : the command with real paths and sizes.
    program : where it is typed; the shell when empty.
    needs_mrc : the tomogram in it is zarr, which not all versions of the program read.
    """

    line: str
    program: str = ""
    needs_mrc: bool = False

    def __str__(self) -> str:
        return f"{self.line}{f'   ({notes})' if (notes := self._notes()) else ''}"

    def _notes(self) -> str:
        notes = [f"in {self.program}"] if self.program else []
        return ", ".join([*notes, *(["with the tomogram as MRC if it reads no zarr"] if self.needs_mrc else [])])


def shell_command(*words: object, tomogram: PickedTomogram | None = None) -> Command:
    """Words as they are typed into a shell; ``tomogram`` is the one that the program reads, if it reads one."""
    return Command(shlex.join(str(word) for word in words), needs_mrc=tomogram is not None and tomogram.is_zarr)


def quoted(value: object) -> str:
    """In double quotes, as commands of ChimeraX take names with blanks."""
    return f'"{value}"'
