"""Scripts that are stopped, or whose disk fails: one line, the right exit code, and the same command goes on."""

from command_line import run_script

import asyncio
import errno
import gc
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tiny_campaign
from tiny_campaign import EVALUATED

import eval_public_czi
import make_phantom_dataset
import pick_particles
import run_experiment_evaluation
from data import files
from data.files import atomic_path, entries, files_below, kept_folder
from errors import InputError, MachineError
from inference.maps.network_maps import NetworkMaps
from inference.maps.timings import Timings

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return tiny_campaign.make(tmp_path_factory.mktemp("world"))


def evaluation(world, out):
    words = ["--model_path", world / "checkpoints" / "df1", "--data_root", world / "public", "--output_dir", out]
    return eval_public_czi, [*words, *_quick(out)]


def picking(world, out):
    words = ["--model_path", world / "checkpoints" / "df1", "--tomograms", world / "public", "--output_dir", out]
    return pick_particles, [*words, *_quick(out)]


def campaign(world, out):
    return run_experiment_evaluation, [
        *("--experiments_dir", world / "checkpoints", "--experiment_names", "df2", "--data_root", world / "public"),
        *("--output_dir", out, *_quick(out)),
    ]


def _quick(out):
    return ["--cache_dir", out.parent / "cache", "--precision", "fp32", "--inference_window", "train"]


def ended(script, words, capsys):
    """Exit code and what a script says on stderr; warnings of its own are no part of it."""
    capsys.readouterr()
    try:
        run_script(script.main, [str(word) for word in words])
        code = 0
    except SystemExit as stop:
        code = stop.code
    return code, [line for line in capsys.readouterr().err.splitlines() if not line.startswith("warning: ")]


def picks(out):
    """Path -> bytes of all picks."""
    paths = [path for path in out.rglob("*.csv") if ".partial" not in str(path) and path.parent != out]
    return {str(path.relative_to(out)): path.read_bytes() for path in sorted(paths)}


def in_the_second_tomogram(monkeypatch, do):
    """Does something when a network comes to it."""
    original = NetworkMaps._make

    def make(self, checkpoint, source, *rest):
        if source.name == EVALUATED[1] or source.name.endswith(EVALUATED[1]):
            do()
        return original(self, checkpoint, source, *rest)

    monkeypatch.setattr(NetworkMaps, "_make", make)


# --- Signals ------------------------------------------------------------------------------------------
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("script", "number", "code", "text"),
    [
        (evaluation, signal.SIGTERM, 143, "terminated"),
        (picking, signal.SIGTERM, 143, "terminated"),
        (campaign, signal.SIGTERM, 143, "terminated"),
        (picking, signal.SIGINT, 130, "interrupted"),
    ],
)
def test_stopped_at_the_second_tomogram(world, tmp_path, monkeypatch, capsys, script, number, code, text):
    whole, stopped = (script(world, tmp_path / name) for name in ("whole", "stopped"))
    assert ended(*whole, capsys)[0] == 0
    shutil.rmtree(tmp_path / "cache")
    before = signal.getsignal(signal.SIGTERM)
    with monkeypatch.context() as patch:
        in_the_second_tomogram(patch, lambda: signal.raise_signal(number))
        assert ended(*stopped, capsys) == (code, [text])
    assert signal.getsignal(signal.SIGTERM) == before
    assert ended(*stopped, capsys)[0] == 0
    assert picks(tmp_path / "stopped") == picks(tmp_path / "whole") != {}


def test_a_phantom_data_set_that_is_terminated(tmp_path, monkeypatch, capsys):
    words = ["--output_dir", tmp_path, "--num_train", 1, "--num_eval", 1, "--shape", 16, 32, 32]
    with monkeypatch.context() as patch:
        patch.setattr(make_phantom_dataset, "write_portal_run", lambda *_: signal.raise_signal(signal.SIGTERM))
        assert ended(make_phantom_dataset, words, capsys) == (143, ["terminated"])
    assert ended(make_phantom_dataset, words, capsys) == (0, [])


# --- Disks --------------------------------------------------------------------------------------------
@pytest.mark.parametrize("script", [picking, campaign])
@pytest.mark.filterwarnings("ignore")
def test_an_output_folder_that_is_removed_is_told(world, tmp_path, monkeypatch, capsys, script):
    """At the second tomogram; the same command then makes all of it."""
    out = tmp_path / "out"
    command = script(world, out)
    with monkeypatch.context() as patch:
        in_the_second_tomogram(patch, lambda: shutil.rmtree(out, ignore_errors=True))
        code, [text] = ended(*command, capsys)
    assert code == 1 and text.startswith(f"error: {out} was removed or exchanged while") and not out.exists()
    assert ended(*command, capsys)[0] == 0 and picks(out)


@pytest.mark.parametrize("script", [evaluation, picking])
@pytest.mark.filterwarnings("ignore")
def test_picks_that_are_removed_are_told(world, tmp_path, monkeypatch, capsys, script):
    out = tmp_path / "out"
    command = script(world, out)
    with monkeypatch.context() as patch:
        in_the_second_tomogram(patch, lambda: shutil.rmtree(out / "picks", ignore_errors=True))
        code, [text] = ended(*command, capsys)
    assert code == 1 and "removed while this command was at work" in text and EVALUATED[0] in text
    assert ended(*command, capsys)[0] == 0


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("script", "number", "advice"),
    [
        (evaluation, errno.ENOSPC, "make room"),
        (picking, errno.EROFS, "choose another folder"),
        (campaign, errno.EIO, "the disk"),
    ],
)
def test_a_disk_that_fails_ends_the_command_and_earlier_results_stay(
    world, tmp_path, monkeypatch, capsys, script, number, advice
):
    out = tmp_path / "out"
    command = script(world, out)

    def fail(*_, **__):
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        in_the_second_tomogram(patch, lambda: patch.setattr(files, "_flush", fail))
        code, [text] = ended(*command, capsys)
    assert code == 1 and text.startswith("error: cannot write ") and f"{os.strerror(number)}; {advice}" in text
    before = picks(out)
    assert before and not list(out.rglob("*.partial"))
    assert ended(*command, capsys)[0] == 0
    assert before.items() <= picks(out).items() and len(picks(out)) > len(before)


def test_timings_on_a_full_disk():
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full")
    with pytest.raises(MachineError, match="cannot write /dev/full: No space left on device; make room"):
        Timings(Path("/dev/full")).write(seconds=1.0, work="network")


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 256 kB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting needs root")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.filterwarnings("ignore:.*unclosed file:ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_every_kind_of_file_on_a_full_disk_is_one_line_and_leaves_nothing(small_disk):
    import mrcfile
    import numpy as np
    import torch

    from data.volume_files import VolumeGrid, write_ome_zarr
    from inference.maps.map_files import write_map
    from inference.predictor import Prediction

    volume = np.random.default_rng(0).normal(size=(64, 64, 64)).astype(np.float32)

    def mrc(path):
        with mrcfile.new(path) as file:
            file.set_data(volume)

    def checkpoint(path):
        with path.open("wb") as file:
            torch.save(torch.tensor(volume), file)

    def ome_zarr(path):
        grid = VolumeGrid(volume.shape, 10.0, (0.0, 0.0, 0.0))
        write_ome_zarr(path, [volume], grid, dtype="float32", attributes={})

    def probability_map(path):
        write_map(path, Prediction(torch.rand(3, 64, 64, 64), None, 1))

    writers = (mrc, checkpoint, ome_zarr, probability_map, lambda path: np.save(path, volume))
    old = small_disk / "old"
    old.write_text("old")
    for write in (*writers, lambda path: path.write_bytes(volume.tobytes())):
        with (
            pytest.raises(MachineError, match=f"cannot write {small_disk}/old: "),
            atomic_path(small_disk / "old") as path,
        ):
            write(path)
        assert list(small_disk.iterdir()) == [old] and old.read_text() == "old"
    gc.collect()  # mrcfile does not close what it cannot write


def test_a_disk_without_room_for_the_name_of_the_process(small_disk):
    with pytest.raises(OSError, match="No space"):
        (small_disk / "full").write_bytes(bytes(2**20))
    with pytest.raises(MachineError, match=f"cannot write {small_disk}/x: .*make room"), atomic_path(small_disk / "x"):
        pass
    assert [path.name for path in small_disk.iterdir()] == ["full"]


@pytest.mark.parametrize("channels", [None, 1])
def test_no_thread_writes_on_after_an_error(tmp_path, monkeypatch, channels):
    import numpy as np
    from zarr.storage import LocalStore

    from data.challenge_layout import write_pyramid
    from data.volume_files import VolumeGrid, write_ome_zarr

    volume = np.zeros((140, 140, 140), dtype=np.float32) + 1
    grid = VolumeGrid(volume.shape, 10.0, (0.0, 0.0, 0.0))
    into, failed = LocalStore.set, []

    async def fail_once(self, key, value):
        if re.search(r"\d$", key):
            if not failed:
                failed.append(key)
                raise OSError(errno.ENOSPC, "No space left on device")
            await asyncio.sleep(0.05)
        await into(self, key, value)

    monkeypatch.setattr(LocalStore, "set", fail_once)
    for write in (
        lambda path: write_pyramid(path, volume, 10.0),
        lambda path: write_ome_zarr(path, [volume], grid, dtype="float32", channels=channels, attributes={}),
    ):
        failed.clear()
        with pytest.raises(MachineError, match="make room"), atomic_path(tmp_path / "x.zarr") as path:
            write(path)
        time.sleep(0.3)
        assert failed and not list(tmp_path.iterdir())


AS_NOBODY = """
import os, sys
from pathlib import Path
os.setgid(65534); os.setuid(65534)
from command_line import run_script
from data.czi import find_runs
from data.files import atomic_path
def main(argv):
    what, folder = argv
    if what == "read":
        find_runs(folder)
    else:
        with atomic_path(Path(folder) / "x") as path:
            path.touch()
run_script(main, sys.argv[1:])
"""


def as_nobody(*words):
    command = [sys.executable, "-c", AS_NOBODY, *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT)


@pytest.fixture
def foreign(tmp_path):
    """A folder of root's, below folders that everybody may enter; the program must be readable for others, too."""
    if os.getuid() != 0:
        pytest.skip("needs root to be somebody else")
    for folder in (tmp_path, *tmp_path.parents):
        if not folder.stat().st_mode & 0o001:
            folder.chmod(folder.stat().st_mode | 0o011)
    probe = [sys.executable, "-c", "import os; os.setuid(65534); import command_line, data.czi"]
    if subprocess.run(probe, capture_output=True, cwd=ROOT).returncode:
        pytest.skip("others may not read the program")
    return tmp_path


def test_an_output_folder_that_must_not_be_written_to(foreign):
    done = as_nobody("write", foreign)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert done.stderr.startswith(f"error: cannot write {foreign / 'x'}: Permission denied; choose another folder")


@pytest.mark.parametrize("what", ["train/static/ExperimentRuns", "train/static/ExperimentRuns/TS_1/VoxelSpacing10.000"])
def test_a_subfolder_that_must_not_be_read_is_no_empty_one(foreign, what):
    for name in ("TS_1", "TS_2"):
        tiny_campaign.write_run(foreign, name, 1)
    (foreign / what).chmod(0o700)
    done = as_nobody("read", foreign)
    assert done.returncode in (1, 2) and done.stderr.count("\n") == 1 and "Traceback" not in done.stderr
    assert what in done.stderr and "Permission denied; " in done.stderr


def test_unreadable_folders_are_told_and_missing_ones_are_empty(tmp_path, monkeypatch):
    (tmp_path / "a.json").touch()
    (tmp_path / "b.txt").touch()
    assert entries(tmp_path, "*.json") == [tmp_path / "a.json"] and len(entries(tmp_path)) == 2
    assert entries(tmp_path / "none") == entries(tmp_path / "a.json") == []

    def refuse(path, *_):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", refuse)
    monkeypatch.setattr(os, "listdir", refuse)
    for read in (entries, files_below):
        with pytest.raises(InputError, match=f"{tmp_path}: cannot be read .Permission denied.; change"):
            read(tmp_path)


def test_a_kept_folder_is_not_made_again(tmp_path):
    kept = tmp_path / "kept"
    kept.mkdir()
    with pytest.raises(MachineError, match=f"{kept} was removed or exchanged"), kept_folder(kept):
        kept.rmdir()
        with atomic_path(kept / "a" / "b") as path:
            path.touch()
    assert not kept.exists()
    kept.mkdir()
    with pytest.raises(MachineError, match="was removed"), kept_folder(kept):
        kept.rename(tmp_path / "elsewhere")
        kept.mkdir()
    with atomic_path(kept / "b") as path:  # no longer kept
        path.touch()
    assert (kept / "b").is_file()
