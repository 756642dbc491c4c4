"""Damages valid files, at random but repeatably, and counts what their readers make of them.

    python -m benchmarks.fuzz                                       # 20,000 damaged files, some minutes
    python -m benchmarks.fuzz --mutants 500 --seed 3 --only mask checkpoint

A damaged file must be refused in one line, told and made again, or read as what it says. Counted are

    same       read as before the damage
    refused    by one line, or made again
    changed    another value, in a format without a checksum, which the file really says
    traceback  any other exception
    hang       more than SECONDS, or FOLDER_SECONDS where a whole command is given again
    wrong      another value that the file does not say, or in a format with a checksum

Exit code 1 where one of the last three is found; each is printed with the number that makes it again.
"""

import argparse
import json
import re
import resource
import shutil
import signal
import struct
import sys
import tempfile
import traceback
import warnings
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pandas as pd
import torch
from tqdm import tqdm

from benchmarks.fuzz_kinds import AGAIN, DAMAGED, KINDS, Kind
from errors import InputError

MUTANTS = 20_000
SECONDS, FOLDER_SECONDS = 10.0, 120.0
# Beside what the process has: no damaged file may ask for more.
MEMORY_BYTES = 4 * 2**30
GOOD, BAD = ("same", "refused", "changed"), ("traceback", "hang", "wrong")
WORDS = (
    *(
        "nan",
        "inf",
        "-inf",
        "1e308",
        "1e400",
        "-1",
        "0",
        "1e-300",
        "9" * 25,
        "9" * 5000,
        "1_000",
        "0x10",
        "TRUE",
        "null",
    ),
    *("", " ", '"', "'", "<NA>", "=1+1", "\u2028", "\ufeff", "é", "a\0b", "../x", "$", "#", ",", ";", "\t", "loop_"),
)
VALUES = (
    *(
        None,
        True,
        False,
        0,
        -1,
        1,
        2**31,
        -(2**63),
        10**30,
        1e308,
        float("nan"),
        float("inf"),
        "",
        "x",
        "10",
        "\0",
        "é",
    ),
    *([], {}, [1], [None], {"a": 1}, [[1, 2], 3], [1e308] * 3),
)
NUMBERS = (0, 1, -1, 2, 4, 127, 128, 255, 1000, 2**15, 2**16, 10**6, 2**31 - 1, -(2**31), 1146047817)
NUMBER = re.compile(rb"[-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")


class TooSlow(BaseException):
    """Not an Exception, which readers may catch."""


@dataclass(frozen=True)
class Finding:
    """What was found about one damaged file."""

    kind: str
    number: int
    outcome: str
    words: str

    def __str__(self) -> str:
        return f"{self.outcome:9} {self.kind}, number {self.number}: {self.words}"


# --- Damage -------------------------------------------------------------------------------------------
def flip_bit(random: Random, content: bytes) -> bytes:
    at = random.randrange(len(content))
    return content[:at] + bytes([content[at] ^ 1 << random.randrange(8)]) + content[at + 1 :]


def set_bytes(random: Random, content: bytes) -> bytes:
    at, size = random.randrange(len(content)), random.choice((1, 2, 4, 16))
    return content[:at] + random.choice((bytes(size), b"\xff" * size, random.randbytes(size))) + content[at + size :]


def cut_off(random: Random, content: bytes) -> bytes:
    return content[: random.choice((0, len(content) // 2, len(content) - 1, random.randrange(len(content))))]


def remove(random: Random, content: bytes) -> bytes:
    at = random.randrange(len(content))
    return content[:at] + content[at + random.choice((1, 2, 8, 64)) :]


def insert(random: Random, content: bytes) -> bytes:
    at = random.randrange(len(content) + 1)
    return content[:at] + random.choice((random.randbytes(4), random.choice(WORDS).encode())) + content[at:]


def repeat(random: Random, content: bytes) -> bytes:
    at, end = sorted((random.randrange(len(content)), random.randrange(len(content) + 1)))
    return content[:end] + content[at:end] + content[end:]


def change_number(random: Random, content: bytes) -> bytes:
    """Another word in the place of a number in a text."""
    places = [match.span() for match in NUMBER.finditer(content[:100_000])]
    if not places:
        return insert(random, content)
    start, end = random.choice(places)
    return content[:start] + random.choice(WORDS).encode() + content[end:]


def change_integer(random: Random, content: bytes) -> bytes:
    """Another 32-bit number in a binary header."""
    at = 4 * random.randrange(max(1, min(len(content), 1024) // 4))
    return content[:at] + struct.pack(random.choice("<>") + "i", random.choice(NUMBERS)) + content[at + 4 :]


def change_json(random: Random, content: bytes) -> bytes:
    """Another value anywhere in a JSON file, or one less, or one twice."""
    try:
        root = [json.loads(content)]
    except ValueError:
        return change_number(random, content)
    places = list(_places(root))
    holder, key = random.choice(places)
    what = random.randrange(4)
    if what == 0 and holder is not root:
        del holder[key]
    elif what == 1 and isinstance(holder, list):
        holder.append(holder[key])
    elif what == 2:
        other, other_key = random.choice(places)
        holder[key] = json.loads(json.dumps(other[other_key]))
    else:
        holder[key] = random.choice(VALUES)
    return json.dumps(root[0] if root else None).encode()


def _places(holder: list | dict) -> Iterator[tuple[list | dict, int | str]]:
    for key in list(range(len(holder)) if isinstance(holder, list) else holder):
        yield holder, key
        if isinstance(holder[key], list | dict):
            yield from _places(holder[key])


ANYWHERE = (flip_bit, set_bytes, cut_off, remove, insert, repeat)
BY_SUFFIX = {
    (".json", ".zarray", ".zattrs", ".zgroup"): (change_json, change_json, change_json, change_number),
    (".ndjson", ".jsonl", ".star", ".csv", ".tbl", ".cmm", ".json"): (change_number, change_number),
    (".mrc", ".npy", ".mod", ".em", ".gz"): (change_integer, change_integer, change_integer),
}


def damage(random: Random, file: Path) -> tuple[str, bool]:
    """Damage a file; what was done, and whether it was forged: done so that its checksums are right."""
    if file.suffix in (".zip", ".ckpt") and random.random() < 0.4:
        with suppress(Exception):  # an archive that is damaged already
            return _damage_member(random, file), True
    content, name = file.read_bytes(), file.suffix or file.name
    ways = ANYWHERE + tuple(way for suffixes, ways in BY_SUFFIX.items() if name in suffixes for way in ways)
    way = random.choice(ways) if content else insert
    file.write_bytes(way(random, content))
    return f"{way.__name__} {file.name}", False


def _damage_member(random: Random, file: Path) -> str:
    """One file in an archive is damaged, or left out, before it is packed."""
    with zipfile.ZipFile(file) as archive:
        members = [(one.filename, archive.read(one)) for one in archive.infolist()]
    chosen = random.randrange(len(members))
    left_out = random.random() < 0.2
    ways = (*ANYWHERE, change_json, change_json) if members[chosen][0].endswith(".json") else ANYWHERE
    way = random.choice(ways)
    with zipfile.ZipFile(file, "w") as archive:
        for index, (name, content) in enumerate(members):
            if index != chosen:
                archive.writestr(name, content)
            elif not left_out:
                archive.writestr(name, way(random, content) if content else b"x")
    return f"{'left out' if left_out else way.__name__} {members[chosen][0]} in {file.name}"


# --- Reading ------------------------------------------------------------------------------------------
@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    def stop(number, frame):
        raise TooSlow

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def outcome_of(kind: Kind, path: Path, original: object, *, forged: bool) -> tuple[str, str]:
    """Which outcome it is, and words about a bad one."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        seconds = FOLDER_SECONDS if kind.share < 1 else SECONDS
        try:
            with time_limit(seconds):
                value = kind.read(path)
        except InputError:
            return "refused", ""
        except TooSlow:
            return "hang", f"more than {seconds:g} s"
        except Exception as error:
            frame = traceback.extract_tb(error.__traceback__)[-1]
            return (
                "traceback",
                f"{type(error).__name__}: {str(error)[:100]} ({Path(frame.filename).name}:{frame.lineno})",
            )
        if repr(value) == repr(original):
            return "same", ""
        if value == AGAIN:
            return "refused", ""
        if kind.has_checksum:
            return ("changed", "") if forged else ("wrong", "another value than was written")
        try:
            is_right = kind.right(path, value)
        except Exception as error:
            return "wrong", f"read, but a simple reader fails: {type(error).__name__}: {str(error)[:100]}"
        return ("changed", "") if is_right else ("wrong", f"not what the file says: {str(value)[:100]}")


def fuzz(
    mutants: int, seed: int, only: Sequence[str] = (), *, first: int = 0, quiet: bool = True
) -> tuple[pd.DataFrame, list[Finding]]:
    """Counts (one row a kind, one column an outcome), and the bad findings. Mutant n is the same whatever else runs."""
    names = [name for name in KINDS if not only or name in only]
    counts, findings = {name: Counter() for name in names}, []
    with tempfile.TemporaryDirectory() as folder, _memory_limit():
        samples = {name: _sample(name, Path(folder)) for name in names}
        for number in tqdm(range(first, first + mutants), disable=True if quiet else None, unit="file"):
            name = names[number % len(names)]
            if KINDS[name].share < 1 and Random(f"{seed} {number}").random() >= KINDS[name].share:
                continue
            outcome, words = _one(name, number, seed, Path(folder), *samples[name])
            counts[name][outcome] += 1
            if outcome in BAD:
                findings.append(Finding(name, number, outcome, words))
    table = pd.DataFrame(counts).T.reindex(columns=[*GOOD, *BAD]).fillna(0).astype(int)
    return table, findings


def _sample(name: str, folder: Path) -> tuple[Path, Path, object]:
    """Folder of a valid sample, the path in it that is read, and what is read."""
    sample = folder / "samples" / name.replace(" ", "_")
    sample.mkdir(parents=True)
    path = KINDS[name].write(sample)
    return sample, path.relative_to(sample), KINDS[name].read(path)


def _one(
    name: str, number: int, seed: int, folder: Path, sample: Path, path: Path, original: object
) -> tuple[str, str]:
    random = Random(f"{seed} {name} {number}")
    # A place of its own: what is known of a path by its state must not be known of the next.
    copy = folder / f"mutant_{number}"
    shutil.copytree(sample, copy)
    files = sorted(file for file in copy.rglob(DAMAGED.get(name, "*")) if file.is_file() and file.suffix != ".lock")
    done, forged = [], False
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        words, by_force = damage(random, random.choice([file for file in files if file.name != ".lock"]))
        done, forged = [*done, words], forged or by_force
    try:
        outcome, words = outcome_of(KINDS[name], copy / path, original, forged=forged)
        return outcome, f"{', '.join(done)}: {words}"
    finally:
        shutil.rmtree(copy)


@contextmanager
def _memory_limit() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0]) if Path("/proc/self/statm").is_file() else 0
    if pages:
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY_BYTES, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mutants", type=int, default=MUTANTS, help="damaged files, over all kinds")
    parser.add_argument("--first", type=int, default=0, help="number of the first")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=list(KINDS), default=(), help="these kinds of files")
    args = parser.parse_args()
    torch.set_num_threads(1)
    table, findings = fuzz(args.mutants, args.seed, args.only, first=args.first, quiet=False)
    for finding in findings:
        print(finding)
    print(pd.concat([table, table.sum().to_frame("all").T]).to_string())
    sys.exit(1 if findings else 0)


if __name__ == "__main__":
    main()
