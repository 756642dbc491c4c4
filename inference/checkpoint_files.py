"""Checkpoint files: read only when every byte is as it was written, and the best of each fold by its name."""

import pickle
import re
import zipfile
from functools import cache
from pathlib import Path
from typing import Any

import torch

from data.content_hash import FileStates, file_states
from data.files import check_regular, entries
from errors import InputError, raise_scarcity

BEST_CHECKPOINT = re.compile(r"fold_(?P<fold>\d+)-best-(?P<what>.+)-epoch=(?P<epoch>\d+)-f4=(?P<f4>[\d.]+)\.ckpt")


def read_checkpoint_file(path: Path, *, mmap: bool = False) -> dict[str, Any]:
    """What a checkpoint holds, by name; ``mmap``: its tensors stay in the file until they are used.

    InputError for a file that torch.save did not write, or of which a byte has changed.
    """
    if not path.exists():
        raise InputError(f"checkpoint {path} does not exist")
    check_regular(path)
    try:
        _check_archive(path, file_states(path))
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except pickle.UnpicklingError:
        raise InputError(f"{path} holds more than weights and plain values; it was not written by train.py") from None
    except Exception as error:  # damaged pickles fail in as many ways as Python has
        raise_scarcity(error)
        raise InputError(f"{path} cannot be read as a checkpoint ({first_line(error)}); is it complete?") from None
    if not isinstance(content, dict):
        raise InputError(f"{path} was not written by train.py: it does not describe its network")
    return content


@cache
def _check_archive(path: Path, states: FileStates) -> None:
    """ValueError unless all checksums are right; asked once as long as the state of the file is the same."""
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        # torch.save does not compress: what would grow in reading is not its work.
        if any(one.compress_type != zipfile.ZIP_STORED for one in entries):
            raise ValueError("its parts are compressed")
        if sum(one.file_size for one in entries) > path.stat().st_size:
            raise ValueError("its parts are larger than the file")
        if damaged := archive.testzip():
            raise ValueError(f"{damaged} in it is damaged; copy it again")


def best_checkpoints(folder: Path) -> dict[tuple[int, str], Path]:
    """(fold, particle or fscore) -> checkpoint; the best of several that a killed run left."""
    named = [(match, path) for path in entries(folder, "*.ckpt") if (match := BEST_CHECKPOINT.fullmatch(path.name))]
    named.sort(key=lambda pair: (float(pair[0]["f4"]), int(pair[0]["epoch"])))
    return {(int(match["fold"]), match["what"]): path for match, path in named}


def first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:120]
