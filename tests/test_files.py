"""atomic_path: all or nothing, for files and folders."""

import argparse
import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from data.files import atomic_path, check_complete, check_regular, complete_group, files_below, path_argument
from errors import InputError, MachineError


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_file_appears_only_at_the_end_and_nothing_else_stays(tmp_path):
    target = tmp_path / "new" / "picks.json"
    with atomic_path(target) as temporary:
        temporary.write_text("ready")
        assert not target.exists()
        assert temporary.name == target.name, "writers look at the suffix"
    assert target.read_text() == "ready"
    assert names(target.parent) == ["picks.json"]


def test_an_error_leaves_the_old_file_and_no_rest(tmp_path):
    target = tmp_path / "mask.npy"
    target.write_text("old")
    with pytest.raises(RuntimeError), atomic_path(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert target.read_text() == "old"
    assert names(tmp_path) == ["mask.npy"]


def test_a_folder_is_replaced_as_a_whole(tmp_path):
    target = tmp_path / "run.zarr"
    for content in ("first", "second"):
        with atomic_path(target) as temporary:
            temporary.mkdir()
            (temporary / content).write_text(content)
    assert names(target) == ["second"]
    assert names(tmp_path) == ["run.zarr"]


@pytest.mark.parametrize("is_folder", [False, True])
def test_content_is_on_the_disk_before_its_name(tmp_path, monkeypatch, is_folder):
    target, flushed = tmp_path / "results", []

    def fsync(descriptor):
        assert not target.exists()
        flushed.append(os.fstat(descriptor).st_ino)

    monkeypatch.setattr(os, "fsync", fsync)
    with atomic_path(target) as temporary:
        if is_folder:
            temporary.mkdir()
        (temporary / "a" if is_folder else temporary).write_text("ready")
    assert flushed == [(target / "a" if is_folder else target).stat().st_ino]


def test_an_error_leaves_the_old_folder(tmp_path):
    target = tmp_path / "run.zarr"
    target.mkdir()
    (target / "old").touch()
    with pytest.raises(RuntimeError), atomic_path(target) as temporary:
        temporary.mkdir()
        raise RuntimeError
    assert names(target) == ["old"]
    assert names(tmp_path) == ["run.zarr"]


def test_writing_nothing_is_an_error(tmp_path):
    with pytest.raises(RuntimeError, match="nothing was written"), atomic_path(tmp_path / "x.csv"):
        pass
    assert names(tmp_path) == []


def test_a_place_that_cannot_be_written_is_the_users_to_mend(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot write"), atomic_path(tmp_path / "file" / "x.csv"):
        pass


def test_a_full_disk_is_the_machines(tmp_path):
    with pytest.raises(MachineError, match="make room"), atomic_path(tmp_path / "x.csv") as temporary:
        temporary.write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")
    assert names(tmp_path) == []


def test_files_behind_links_are_found_once_and_a_circle_ends(tmp_path):
    store = tmp_path / "store"
    (store / "100").mkdir(parents=True)
    (store / "100" / "b.ndjson").write_text("")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "a.ndjson").symlink_to(store / "100" / "b.ndjson")
    (folder / "100").symlink_to(store / "100")
    (store / "100" / "up").symlink_to(folder)
    (folder / "broken").symlink_to(tmp_path / "nothing")
    assert files_below(folder) == [folder / "100" / "b.ndjson", folder / "a.ndjson"]
    assert files_below(tmp_path / "nothing") == []


def test_home_is_what_the_tilde_says(monkeypatch):
    monkeypatch.setenv("HOME", "/home/somebody")
    assert path_argument("~/data") == Path("/home/somebody/data")
    assert path_argument("data/~x") == Path("data/~x")
    with pytest.raises(argparse.ArgumentTypeError, match="give the whole path"):
        path_argument("~nobody_of_this_name/data")


def test_every_path_of_the_command_line_takes_a_tilde():
    root = Path(__file__).parents[1]
    files = [*root.glob("*.py"), *root.glob("*/arguments.py"), root / "metrics" / "fbeta.py"]
    assert [path.name for path in files if "type=Path" in path.read_text()] == []


# --- Groups, and what killed processes leave ----------------------------------------------------------
def test_a_group_is_incomplete_until_its_block_ends_well(tmp_path):
    folder = tmp_path / "Picks"
    with complete_group(folder):
        (folder / "a").touch()
        with pytest.raises(InputError, match=r"Picks is incomplete: the command .* was stopped.*; run it again"):
            check_complete(folder)
    check_complete(folder)
    assert names(folder) == ["a"]
    with pytest.raises(KeyboardInterrupt), complete_group(folder):
        raise KeyboardInterrupt
    with pytest.raises(InputError, match="incomplete"):
        check_complete(folder)


KILLED = """
import os, signal, sys
from data import files
def stop(*_): os.kill(os.getpid(), signal.SIGKILL)
when, target = sys.argv[1:]
if when == "between the renames":
    replace = files.Path.replace
    files.Path.replace = lambda path, to: stop() if path.name == "run" and to.name == "run" else replace(path, to)
with files.atomic_path(target) as temporary:
    temporary.mkdir()
    (temporary / "new").touch()
    if when == "while it is filled":
        stop()
"""


@pytest.mark.parametrize(("when", "left"), [("while it is filled", ["old"]), ("between the renames", ["new"])])
def test_what_a_killed_process_left_is_removed_or_finished_by_the_next(tmp_path, when, left):
    target = tmp_path / "run"
    target.mkdir()
    (target / "old").touch()
    words = [sys.executable, "-c", KILLED, when, str(target)]
    assert subprocess.run(words, cwd=Path(__file__).parents[1]).returncode == -signal.SIGKILL
    assert len(list(tmp_path.glob(".run.*.partial"))) == 1
    with atomic_path(tmp_path / "other") as temporary:
        temporary.touch()
    assert names(tmp_path) == ["other", "run"] and names(target) == left


def test_temporary_files_of_a_process_at_work_stay(tmp_path, monkeypatch):
    with atomic_path(tmp_path / "a") as temporary:
        monkeypatch.setattr("data.files._tidied", set())  # as another process
        with atomic_path(tmp_path / "b") as other:
            other.touch()
        temporary.touch()
    (tmp_path / ".c.x.partial").mkdir()  # nobody knows whose
    monkeypatch.setattr("data.files._tidied", set())
    with atomic_path(tmp_path / "a") as temporary:
        temporary.touch()
    assert names(tmp_path) == [".c.x.partial", "a", "b"]


def test_only_regular_files_are_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").touch()
    check_regular(tmp_path / "file")
    for path in (tmp_path / "pipe", tmp_path, Path("/dev/zero")):
        with pytest.raises(InputError, match="not a regular file"):
            check_regular(path)
