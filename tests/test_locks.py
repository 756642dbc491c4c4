"""Locks between processes: one at a time, the others learn who has it, and no link is followed."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from data import locks
from data.files import complete_group, no_link
from data.locks import Held, holder_of, locked
from errors import InputError
from inference.maps.timings import Timings

ROOT = Path(__file__).parents[1]
HOLD = "import sys, time; from pathlib import Path; from data.locks import locked\n"
HOLD += "with locked(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"


@pytest.fixture
def held(tmp_path):
    """A lock that another process holds."""
    path = tmp_path / "folder" / ".lock"
    other = subprocess.Popen([sys.executable, "-c", HOLD, path], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert other.stdout.readline() == "held\n"
    yield path, other
    other.kill()
    other.communicate()


def test_who_holds_it_is_said_and_it_goes_with_that_process(held):
    path, other = held
    with pytest.raises(Held, match=rf"process {other.pid} on .* \(-c .*\.lock\)"), locked(path, timeout=0):
        pass
    other.kill()
    other.wait()
    with locked(path, timeout=10):
        assert f"process {os.getpid()} on" in holder_of(path)


def test_a_long_wait_is_said_a_short_one_is_not(held, monkeypatch):
    path, other = held
    monkeypatch.setattr(locks, "QUIET_SECONDS", 0.2)
    said = pytest.warns(UserWarning, match=rf"waiting for process {other.pid} on .*, which holds {path}")
    with said, pytest.raises(Held), locked(path, timeout=0.5):
        pass
    with pytest.raises(Held), locked(path, timeout=0.1):
        pass
    with pytest.warns(UserWarning, match="waiting for"):
        threading.Timer(0.6, other.kill).start()
        begun = time.monotonic()
        with locked(path):
            assert time.monotonic() - begun < 30


def test_the_lock_is_free_after_the_block_whatever_happened(tmp_path):
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), locked(tmp_path / ".lock", timeout=0):
            raise ZeroDivisionError
    with locked(tmp_path / ".lock", timeout=0), pytest.raises(Held), locked(tmp_path / ".lock", timeout=0):
        pass


@pytest.mark.parametrize("shared", [False, True])
def test_other_users_may_hold_a_shared_lock(tmp_path, shared):
    before = os.umask(0o022)
    try:
        with locked(tmp_path / ".lock", shared=shared):
            assert (tmp_path / ".lock").stat().st_mode & 0o777 == (0o666 if shared else 0o644)
    finally:
        os.umask(before)


@pytest.mark.parametrize("target", ["precious", "nowhere"])
def test_links_are_not_followed(tmp_path, target):
    """Somebody who may write into a shared folder could have a file of another user emptied."""
    (tmp_path / "precious").write_text("mine")
    for name in (".lock", "timings.jsonl", ".incomplete"):
        (tmp_path / name).symlink_to(tmp_path / target)
    with pytest.raises(InputError, match="is a link"), locked(tmp_path / ".lock"):
        pass
    with pytest.raises((OSError, InputError), match="symbolic links"):
        Timings(tmp_path / "timings.jsonl").write(seconds=1.0, work="a")
    with pytest.raises(InputError, match="cannot write"), complete_group(tmp_path):
        pass
    with pytest.raises((OSError, InputError), match="symbolic links"), open(tmp_path / ".lock", "wb", opener=no_link):
        pass
    assert (tmp_path / "precious").read_text() == "mine" and not (tmp_path / "nowhere").exists()


def test_what_a_lock_file_holds_is_told_in_one_printable_line(tmp_path):
    for content in (b"", b"\xff\x1b[31m\n" * 1000):
        (tmp_path / "a").write_bytes(content)
        assert holder_of(tmp_path / "a").isprintable() and len(holder_of(tmp_path / "a")) <= 300
    assert holder_of(tmp_path / "none") == "another process"
