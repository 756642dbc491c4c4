"""A folder of results belongs to one command: what lies in it is of the same flags and the same networks."""

import shlex
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from data.command_record import PARAMETERS, write_command_record
from data.content_hash import ContentHashes, table_hash
from data.files import kept_folder
from data.locks import Held, holder_of, locked
from data.text_files import read_json_object
from errors import InputError, os_error
from evaluation.shards import LOGS, NOTES, Shard

# To look at a folder takes less, also where it is on a slow disk.
STARTING_SECONDS = 60


@dataclass(frozen=True)
class Command:
    """What led to results.

    Attributes
    ----------
    line : as it was typed
    parameters : the flags that the results depend on, as plain values; paths are absolute
    networks : name -> content hash of each checkpoint
    data : name of a tomogram -> content hashes of the files, asked for when the command has worked on them
    """

    line: str
    parameters: Mapping[str, Any]
    networks: Mapping[str, str]
    data: Callable[[], Mapping[str, Any]] = dict


def data_hashes(
    tomograms: Mapping[str, Path], truths: Mapping[str, pd.DataFrame], hashes: ContentHashes
) -> dict[str, dict[str, str]]:
    """Name -> hashes of the tomogram's file, and of its reference points where they are known."""
    found = {}
    for name, path in tomograms.items():
        with suppress(OSError):  # could not be read, which the command has said
            found[name] = {"tomogram": hashes.of(path)}
            if name in truths:
                found[name]["truth"] = table_hash(truths[name])
    return found


@contextmanager
def owned(
    root: Path,
    command: Command,
    *,
    results: Sequence[str],
    temporary: Sequence[str],
    anew: bool = False,
    shard: Shard | None = None,
) -> Iterator[None]:
    """Hold the folder for a command until the block ends; PARAMETERS in it says which.

    Parameters
    ----------
    results, temporary : patterns below the folder, of what such a command writes and of what a killed one leaves
    anew : remove the results that are there, whichever flags and networks of the same script they are of
    shard : hold it together with the other shards of the same command

    Raises
    ------
    InputError : another process is at work here, or the folder holds results of something else; or it cannot be
        written to.
    """
    with ExitStack() as stack:
        with _starting(root):
            others = stack.enter_context(_holding(root, shard))
            if shard is None:  # what shards leave may be of another that is at work
                _remove(root, temporary)
            there = [path for pattern in results for path in root.glob(pattern)]
            if there or others:
                _check(root, command, anew)
            if anew:
                _remove(root, (*results, NOTES, LOGS))
            record = {"parameters": command.parameters, "networks": command.networks}
            write_command_record(root, command.line, **record)
        stack.enter_context(kept_folder(root))
        yield
        # Hashes of tomograms take long, but not once they were worked on; a shard has not seen those of the others.
        if shard is None:
            write_command_record(root, command.line, **record, data=command.data())


def _remove(root: Path, patterns: Sequence[str]) -> None:
    for path in [path for pattern in patterns for path in root.glob(pattern)]:
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


@contextmanager
def _starting(root: Path) -> Iterator[None]:
    """One process at a time looks at what lies in a folder and which others are at work on it."""
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(root / ".starting.lock", timeout=STARTING_SECONDS))
        except Held as holder:
            raise InputError(f"another process has been starting in {root} for long: {holder}; stop it") from None
        except OSError as error:
            raise os_error(error, f"cannot write {root}", advice="choose another --output_dir") from error
        yield


@contextmanager
def _holding(root: Path, shard: Shard | None) -> Iterator[bool]:
    """Keep a folder of results for this process, or for a shard beside others; whether there are others."""
    alone = root / ".lock"
    mine = alone if shard is None else root / f".shard_{shard.number}_of_{shard.count}.lock"
    who = "another process" if shard is None else f"shard {shard}"
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(mine, timeout=0))
        except Held as holder:
            raise InputError(f"{who} is at work on {root}: {holder}; wait for it or stop it") from None
        others = [path for path in (alone, *root.glob(".shard_*.lock")) if path != mine and _is_held(path)]
        for other in others:
            if shard is None or not other.name.endswith(f"_of_{shard.count}.lock"):
                raise InputError(f"another process is at work on {root}: {holder_of(other)}; wait for it or stop it")
        yield bool(others)


def _is_held(path: Path) -> bool:
    try:
        with locked(path, timeout=0):
            return False
    except Held:
        return True


def _check(root: Path, command: Command, anew: bool) -> None:
    """InputError unless what lies in the folder is of the command, or may be removed for it."""
    try:
        before = read_json_object(root / PARAMETERS)
        script, parameters, networks = _script(before["command"]), before["parameters"], before.get("networks")
        if not isinstance(parameters, dict) or not isinstance(networks, dict | None):
            raise ValueError("no tables")
    except (InputError, ValueError, TypeError, AttributeError, KeyError, IndexError):
        raise InputError(
            f"{root} holds results, and no {PARAMETERS} that says of which command; give another --output_dir"
        ) from None
    if script != _script(command.line):
        raise InputError(f"{root} holds results of {script}; give another --output_dir")
    if anew:
        return
    advice = "give another --output_dir, or --force_rerun to replace them"
    for name in {**command.parameters, **parameters}:
        # A switch that the version of those results did not have was off.
        off = name not in parameters and command.parameters[name] in (None, False)
        if not off and not _same(parameters.get(name), command.parameters.get(name)):
            raise InputError(
                f"{root} holds results with --{name} {_as_typed(parameters.get(name))}, not "
                f"{_as_typed(command.parameters.get(name))}; {advice}"
            )
    if networks is None:  # of an earlier version
        return
    for name in sorted({*networks, *command.networks}):
        if networks.get(name) != command.networks.get(name):
            how = "is new" if name not in networks else "is gone" if name not in command.networks else "has changed"
            raise InputError(f"{root} holds results of other networks: {name} {how} since; {advice}")


def _script(line: str) -> str:
    return shlex.split(line)[1]


def _same(before: Any, now: Any) -> bool:
    """A path that an earlier version wrote down as typed is the same where it leads to the same from here."""
    are_texts = isinstance(before, str) and isinstance(now, str)
    return before == now or (are_texts and Path(now).is_absolute() and str(Path(before).resolve()) == now)


def _as_typed(value: object) -> str:
    if isinstance(value, list):
        return " ".join(map(str, value))
    return "not given" if value is None else str(value)
