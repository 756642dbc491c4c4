"""Probability maps on disk: what comes back, what a key depends on, who is removed, and what a kill leaves."""

import os
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path

import pytest
import torch
import zarr

from errors import InputError, MachineError
from inference.maps.map_files import LEVELS
from inference.maps.map_store import SUFFIX, MapStore
from inference.predictor import Prediction

CPU = torch.device("cpu")
SHAPE = (4, 5, 6, 7)


def prediction(seed=0, variance=True, stride=1, shape=SHAPE):
    torch.manual_seed(seed)
    probability = torch.softmax(3 * torch.randn(shape), dim=0)
    return Prediction(probability, torch.rand(shape) / 4 if variance else None, stride)


@pytest.fixture
def store(tmp_path):
    return MapStore(tmp_path / "maps", limit_gb=1.0)


def save(store, run_name, key, made):
    """Store a map, whatever is there."""
    return store.load_or_make(run_name, key, lambda: (key, made), device=CPU, remake=True)[1]


def load(store, run_name, key):
    """The stored map; None when it would have to be made."""
    found, made = [], []
    try:
        found.append(store.load_or_make(run_name, key, lambda: made.append(1) or 1 / 0, device=CPU)[1])
    except ZeroDivisionError:
        return None
    return found[0]


def entries(store):
    return sorted(path.name.removesuffix(SUFFIX) for path in store.folder.iterdir() if path.name != ".locks")


# --- What comes back ----------------------------------------------------------------------------------
@pytest.mark.parametrize("variance", [True, False])
@pytest.mark.parametrize("shape", [SHAPE, (2, 1, 1, 1), (3, 70, 2, 2)])
def test_the_first_time_is_like_every_other(store, variance, shape):
    original = prediction(variance=variance, stride=2, shape=shape)
    exact = Prediction(original.probability.clone(), original.variance.clone() if variance else None, 2)
    first = save(store, "TS_1", "key", original)
    later = load(store, "TS_1", "key")
    assert torch.equal(first.probability, later.probability) and first.stride == later.stride == 2
    assert (later.probability[1:] - exact.probability[1:]).abs().max() <= 0.5001 / LEVELS
    assert torch.allclose(later.probability.sum(dim=0), torch.ones(shape[1:]), atol=0.51 * shape[0] / LEVELS)
    if variance:
        assert torch.equal(first.variance, later.variance)
        assert (later.variance.sqrt() - exact.variance.sqrt()).abs().max() <= 0.5001 / LEVELS
    else:
        assert later.variance is None


def test_what_was_rounded_stays(store):
    once = save(store, "TS_1", "key", prediction())
    before = once.probability.clone(), once.variance.clone()
    twice = save(store, "TS_1", "again", once)
    assert torch.equal(twice.probability, before[0]) and torch.equal(twice.variance, before[1])


def test_certain_answers_stay_certain(store):
    probability = torch.zeros(SHAPE)
    probability[2] = 1
    stored = save(store, "TS_1", "key", Prediction(probability.clone(), None, 1))
    assert torch.equal(stored.probability, probability)
    assert torch.equal(load(store, "TS_1", "key").probability, probability)


def test_tensors_of_the_predictor_are_taken(store):
    """They are made in inference mode, which forbids changing them outside."""
    with torch.inference_mode():
        made = prediction()
    assert torch.equal(save(store, "TS_1", "key", made).probability, load(store, "TS_1", "key").probability)


def test_not_a_number_is_refused(store):
    broken = prediction()
    broken.probability[2, 0, 0, 0] = float("nan")
    with pytest.raises(ValueError, match="not a number"):
        save(store, "TS_1", "key", broken)
    assert entries(store) == []


def test_an_entry_is_plain_zarr(store):
    saved = save(store, "TS_1", "key", prediction())
    group = zarr.open_group(zarr.storage.ZipStore(store.folder / f"TS_1-key{SUFFIX}", mode="r"), mode="r")
    assert group["probability"][:] / LEVELS == pytest.approx(saved.probability[1:].numpy(), abs=1e-6)


def test_made_once(store):
    calls = []

    def make():
        calls.append(1)
        return "key", prediction()

    maps = [store.load_or_make("TS_1", "key", make, device=CPU, remake=again)[1] for again in (False, False, True)]
    assert len(calls) == 2 and all(torch.equal(one.probability, maps[0].probability) for one in maps)
    assert load(store, "TS_2", "key") is None and load(store, "TS_1", "other") is None


def test_a_map_that_turns_out_to_be_another_is_stored_as_that_one(store):
    """Where memory ran out, it is of other windows than the key says."""
    key, made = store.load_or_make("TS_1", "large", lambda: ("small", prediction()), device=CPU)
    assert key == "small" and entries(store) == ["TS_1-small"]
    assert torch.equal(load(store, "TS_1", "small").probability, made.probability)


# --- The quota ----------------------------------------------------------------------------------------
def filled(tmp_path, names, room):
    """A store with entries of those names, used in that order, and room for so many of them."""
    store = MapStore(tmp_path / "maps", limit_gb=1.0)
    for age, name in enumerate(names):
        save(store, name, "k", prediction())
        os.utime(store.folder / f"{name}-k{SUFFIX}", (1000 + age, 1000 + age))
    size = (store.folder / f"{names[0]}-k{SUFFIX}").stat().st_size
    return MapStore(store.folder, limit_gb=(room + 0.5) * size / 1e9)


def test_the_oldest_go_first(tmp_path):
    store = filled(tmp_path, "abc", room=3)
    save(store, "d", "k", prediction())
    assert entries(store) == ["b-k", "c-k", "d-k"]
    save(MapStore(store.folder, store.limit_gb / 2), "e", "k", prediction())
    assert entries(store) == ["e-k"]


def test_what_was_read_is_young_again(tmp_path):
    store = filled(tmp_path, "abc", room=3)
    load(store, "a", "k")
    save(store, "d", "k", prediction())
    assert entries(store) == ["a-k", "c-k", "d-k"]


def test_replacing_an_entry_needs_no_room(tmp_path):
    store = filled(tmp_path, "abc", room=3)
    save(store, "b", "k", prediction())
    assert entries(store) == ["a-k", "b-k", "c-k"]


def test_what_is_in_use_stays(tmp_path):
    store = filled(tmp_path, "abc", room=2)
    with store._locked(store._path("a", "k")):
        save(store, "d", "k", prediction())
    assert entries(store) == ["a-k", "d-k"]


def test_one_entry_is_always_kept(tmp_path):
    store = MapStore(tmp_path, limit_gb=0.0)
    for name in "ab":
        saved = save(store, name, "k", prediction())
        assert torch.equal(load(store, name, "k").probability, saved.probability)
        assert entries(store) == [f"{name}-k"]


# --- What can go wrong --------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:-100],
        lambda content: b"",
        lambda content: b"no archive at all",
        lambda content: content[:400] + bytes([content[400] ^ 1]) + content[401:],
    ],
)
def test_a_damaged_entry_is_made_again(store, damage):
    path = store.folder / f"TS_1-key{SUFFIX}"
    expected = save(store, "TS_1", "key", prediction())
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    with pytest.warns(UserWarning, match="damaged"):
        _, made = store.load_or_make("TS_1", "key", lambda: ("key", prediction()), device=CPU)
    assert torch.equal(made.probability, expected.probability)
    assert torch.equal(load(store, "TS_1", "key").probability, expected.probability)


def test_an_error_while_writing_leaves_the_old_entry(store, monkeypatch):
    old = save(store, "TS_1", "key", prediction())
    monkeypatch.setattr(MapStore, "_make_room", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        save(store, "TS_1", "key", prediction(seed=1))
    assert entries(store) == ["TS_1-key"]
    assert torch.equal(load(store, "TS_1", "key").probability, old.probability)


def test_a_folder_that_cannot_be_written_to(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="choose another folder"):
        save(MapStore(tmp_path / "file" / "maps", 1.0), "TS_1", "key", prediction())


def test_the_store_of_another_user_is_read_and_evicts_what_it_may(tmp_path, monkeypatch):
    """Neither times nor entries of others can be changed; in a folder that takes no files, nothing can be locked."""
    store = filled(tmp_path, ["a", "b"], room=2)

    def refuse(*_, **__):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "touch", refuse)
    assert load(store, "a", "k") is not None
    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", refuse)
        save(store, "c", "k", prediction())
    assert entries(store) == ["a-k", "b-k", "c-k"]
    monkeypatch.setattr(os, "access", lambda *_: False)
    monkeypatch.setattr("inference.maps.map_store.locked", refuse)
    assert load(store, "b", "k") is not None
    with pytest.raises(MachineError, match=r"cannot write .*; choose another folder"):
        load(store, "none", "k")


def test_threads_that_want_the_same_map_make_it_once(store):
    calls, maps = [], []

    def make():
        calls.append(1)
        time.sleep(0.1)
        return "key", prediction()

    threads = [
        threading.Thread(target=lambda: maps.append(store.load_or_make("TS_1", "key", make, device=CPU)[1]))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(calls) == 1 and len(maps) == 4
    assert all(torch.equal(one.probability, maps[0].probability) for one in maps)


HALF_WRITTEN = """
import sys, time
from pathlib import Path
from inference.maps import map_files, map_store
from tests.test_map_store import prediction, save

def stay(group, name, maps, write=map_files._write_maps):
    write(group, name, maps)
    print("half", flush=True)
    time.sleep(60)

map_files._write_maps = stay
save(map_store.MapStore(Path(sys.argv[1]), 1.0), "TS_1", "key", prediction())
"""


def test_killed_while_writing(store):
    """Another process holds the entry until it is killed; then the one that waits makes it and clears the rest away."""
    command = [sys.executable, "-c", HALF_WRITTEN, str(store.folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1]) as other:
        try:
            assert other.stdout.readline() == "half\n"
            assert not list(store.folder.glob(f"*{SUFFIX}")) and len(list(store.folder.glob(".*.partial"))) == 1
            made = []
            waiting = threading.Thread(
                target=lambda: made.append(
                    store.load_or_make("TS_1", "key", lambda: ("key", prediction()), device=CPU)[1]
                )
            )
            waiting.start()
            waiting.join(0.3)
            assert waiting.is_alive() and not made
        finally:
            other.kill()
        waiting.join(30)
    assert entries(store) == ["TS_1-key"]
    assert torch.equal(made[0].probability, load(store, "TS_1", "key").probability)


# --- Entries that another program, or nobody, wrote ---------------------------------------------------
def repack(path, change):
    """The archive with each file as ``change(name, content)`` gives it; None leaves it out."""
    with zipfile.ZipFile(path) as archive:
        members = [(name, archive.read(name)) for name in archive.namelist()]
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members:
            if (changed := change(name, content)) is not None:
                archive.writestr(name, changed)


@pytest.mark.parametrize(
    "change",
    [
        lambda name, content: None if name == "probability/c/0/0/0/0" else content,
        lambda name, content: None if name.startswith("deviation") else content,
        lambda name, content: content.replace(b"[3, 5" if b"[3, 5" in content else b"5,", b"500000,"),
        lambda name, content: b"[1]" if name == "zarr.json" else content,
    ],
    ids=["a chunk is missing", "the deviation is missing", "a huge shape", "a list for the attributes"],
)
def test_an_entry_that_is_not_whole_is_made_again(store, change):
    save(store, "TS_1", "key", prediction())
    repack(store.folder / f"TS_1-key{SUFFIX}", change)
    with pytest.warns(UserWarning, match="is damaged and made again"):
        assert load(store, "TS_1", "key") is None


def test_the_map_of_another_tomogram_is_made_again(store):
    save(store, "TS_1", "key", prediction())
    options = {"device": CPU, "shape": (SHAPE[0] - 1, 9, 9, 9)}
    with pytest.warns(UserWarning, match="is damaged and made again"), pytest.raises(ZeroDivisionError):
        store.load_or_make("TS_1", "key", lambda: 1 / 0, **options)
    store.load_or_make("TS_1", "key", lambda: 1 / 0, device=CPU, shape=(SHAPE[0] - 1, *SHAPE[1:]))


def test_a_map_of_nothing_has_all_its_chunks(store):
    empty = torch.zeros(SHAPE)
    empty[0] = 1
    save(store, "TS_1", "key", Prediction(empty, None, 1))
    assert torch.equal(load(store, "TS_1", "key").probability, empty)
