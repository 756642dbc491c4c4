"""Where open files or memory run out, no reader calls its file damaged, and no result of before is thrown away."""

import builtins
import io
import os
import resource
from contextlib import contextmanager

import pytest

from benchmarks.fuzz_kinds import KINDS
from errors import MachineError, explained


@contextmanager
def no_further_files():
    """Every open() of the process fails, really."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.parametrize("name", KINDS)
def test_no_file_is_blamed_where_too_many_are_open(name, tmp_path):
    """A warning that it is damaged and made again would fail here, too."""
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        folder.mkdir()
    KINDS[name].read(KINDS[name].write(first))  # imports what it needs
    path = KINDS[name].write(second)
    with no_further_files(), pytest.raises((MachineError, OSError)) as failed:
        KINDS[name].read(path)
    known = explained(failed.value)
    assert isinstance(known, MachineError) and "ulimit -n" in str(known)


@pytest.mark.parametrize("name", KINDS)
def test_no_file_is_blamed_where_memory_runs_out(name, tmp_path, monkeypatch):
    path = KINDS[name].write(tmp_path)
    opened = builtins.open

    def out_of_memory(file, *arguments, **options):
        if str(file).startswith(str(tmp_path)):
            raise MemoryError
        return opened(file, *arguments, **options)

    for module in (builtins, io):
        monkeypatch.setattr(module, "open", out_of_memory)
    monkeypatch.setattr(os, "open", out_of_memory)
    with pytest.raises(MemoryError):
        KINDS[name].read(path)
