"""One command on several machines at once, each with its share of the tomograms: no program is needed but the folder.

Shards write into the same folder and the same store of maps. Each says there when it is finished; the one that then
finds all of them finished goes on with what needs all tomograms.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from data.content_hash import hash_of
from data.files import atomic_path
from data.locks import Held, locked
from data.text_files import read_json_object
from errors import InputError, one_line
from evaluation.work import Done, InTurn, TomogramWork, failures_of

# In the folder of results: a file for each shard that is finished, and what workers of Dask say.
NOTES, LOGS = ".shards", "workers"
# More than any cluster gives; each looks for the notes of all others.
MOST_SHARDS = 10_000


@dataclass(frozen=True)
class Shard:
    """The ``number``-th, from 1, of ``count`` equal shares."""

    number: int
    count: int

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.count <= MOST_SHARDS:
            raise ValueError(f"I must be from 1 to N, and N up to {MOST_SHARDS}")

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    def part(self, items: Sequence) -> Sequence:
        return items[self.number - 1 :: self.count]

    @classmethod
    def of_words(cls, text: str, environment: Mapping[str, str]) -> "Shard":
        """Of ``I/N``, or ``slurm`` or ``slurm/N`` in a task of a SLURM job array; ValueError says what is wrong.

        The tasks of an array may be counted from 0 or from 1. ``slurm/N`` is for those of its tasks that run again.
        """
        words = re.fullmatch(r"(slurm|\d{1,9})(?:/(\d{1,9}))?", text, re.ASCII)
        if words is None or (words[1] != "slurm" and words[2] is None):
            raise ValueError(f"{text!r} is neither I/N nor slurm")
        count = None if words[2] is None else int(words[2])
        return cls._of_array(count, environment) if words[1] == "slurm" else cls(int(words[1]), count)

    @classmethod
    def _of_array(cls, count: int | None, environment: Mapping[str, str]) -> "Shard":
        if "SLURM_ARRAY_TASK_ID" not in environment:
            raise ValueError("slurm is for tasks of a job array (sbatch --array=1-N); this is none")
        task = int(environment["SLURM_ARRAY_TASK_ID"])
        if count is None:
            low, high, count = (int(environment.get(f"SLURM_ARRAY_TASK_{name}", 0)) for name in ("MIN", "MAX", "COUNT"))
            if high - low + 1 != count or low > 1:
                raise ValueError(
                    f"the array has {count} tasks between {low} and {high}; start it with --array=1-N, or say of how "
                    "many shards these are some: slurm/N"
                )
        if not 0 <= task <= count:
            raise ValueError(f"task {task} of the array is none of {count} shards")
        return cls(task or count, count)


def note_of(folder: Path, shard: Shard) -> Path:
    """The file that says that a shard is finished, and what it could not do."""
    return folder / NOTES / f"{shard.number}_of_{shard.count}.json"


class ShardInTurn:
    """Does a shard's part of the work in this process.

    Parameters
    ----------
    folder : of the results, held by this shard (evaluation.ownership.owned)
    key : of all that the results depend on; shards of another key are of another command
    """

    def __init__(self, shard: Shard, in_turn: InTurn, folder: Path, key: str) -> None:
        self.shard = shard
        self.here = self.afterwards = in_turn
        self._folder, self._key = folder, key
        self._held = ExitStack()

    def __enter__(self) -> "ShardInTurn":
        return self

    def __exit__(self, *_exception: object) -> None:
        self._held.close()

    def records(self, work: Sequence[TomogramWork[Done]]) -> Iterator[Done]:
        """The records of its own part; then, if this is the shard that goes on, those of all others."""
        key = hash_of([self._key, [one.source.name for one in work]])
        note_of(self._folder, self.shard).unlink(missing_ok=True)
        failures = {}
        for record in self.here.records(self.shard.part(work)):
            if record.error is not None:
                failures[record.run_name] = one_line(record.error)
            yield record
        with atomic_path(note_of(self._folder, self.shard)) as temporary:
            temporary.write_text(json.dumps({"key": key, "failures": failures}) + "\n", encoding="utf-8")
        others = [Shard(number, self.shard.count) for number in range(1, self.shard.count + 1)]
        notes = {other: self._read(other, key) for other in others if other != self.shard}
        if unfinished := [str(other) for other, failed in notes.items() if failed is None]:
            left = ", ".join(unfinished)
            print(f"shard {self.shard} is finished; the last one writes the tables (not finished: {left})")
            return
        try:
            self._held.enter_context(locked(self._folder / ".tables.lock", timeout=0))
        except Held as holder:
            print(f"shard {self.shard} is finished; another shard is writing the tables: {holder}")
            return
        for one, failed in ((one, failed) for other, failed in notes.items() for one in other.part(work)):
            why = failed.get(one.source.name)
            yield one.do(self.here.maps, lambda voxels: None) if why is None else one.failed(InputError(why))

    def prepare(self, work: Sequence[TomogramWork]) -> dict[str, Exception] | None:
        records = list(self.records(work))
        return failures_of(records) if len(records) < len(work) else None

    def _read(self, shard: Shard, key: str) -> Mapping[str, str] | None:
        """What failed in a shard; None where it is not finished with this work."""
        try:
            note = read_json_object(note_of(self._folder, shard))
            return note["failures"] if note["key"] == key else None
        except (InputError, KeyError):
            return None
