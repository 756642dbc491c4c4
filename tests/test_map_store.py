"""Probability maps on disk: what comes back, what a key depends on, who is removed, and what a kill leaves."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
import zarr

from errors import InputError
from evaluation import map_store
from evaluation.map_files import LEVELS
from evaluation.map_store import SUFFIX, MapStore, map_key
from inference.predictor import Prediction

CPU = torch.device("cpu")
SHAPE = (4, 5, 6, 7)
SETTINGS = {"window_zyx": (64, 64, 64), "overlap": 0.25, "tta_group": "d2h", "norm_percentiles": (0.5, 99.5)}


def prediction(seed=0, variance=True, stride=1, shape=SHAPE):
    torch.manual_seed(seed)
    probability = torch.softmax(3 * torch.randn(shape), dim=0)
    return Prediction(probability, torch.rand(shape) / 4 if variance else None, stride)


@pytest.fixture
def store(tmp_path):
    return MapStore(tmp_path / "maps", limit_gb=1.0)


def entries(store):
    return sorted(path.name.removesuffix(SUFFIX) for path in store.folder.iterdir() if path.name != ".locks")


# --- What comes back ----------------------------------------------------------------------------------
@pytest.mark.parametrize("variance", [True, False])
@pytest.mark.parametrize("shape", [SHAPE, (2, 1, 1, 1), (3, 70, 2, 2)])
def test_the_first_time_is_like_every_other(store, variance, shape):
    original = prediction(variance=variance, stride=2, shape=shape)
    exact = Prediction(original.probability.clone(), original.variance.clone() if variance else None, 2)
    first = store.save("TS_1", "key", original)
    later = store.load("TS_1", "key", device=CPU)
    assert torch.equal(first.probability, later.probability) and first.stride == later.stride == 2
    assert (later.probability[1:] - exact.probability[1:]).abs().max() <= 0.5001 / LEVELS
    assert torch.allclose(later.probability.sum(dim=0), torch.ones(shape[1:]), atol=0.51 * shape[0] / LEVELS)
    if variance:
        assert torch.equal(first.variance, later.variance)
        assert (later.variance.sqrt() - exact.variance.sqrt()).abs().max() <= 0.5001 / LEVELS
    else:
        assert later.variance is None


def test_what_was_rounded_stays(store):
    once = store.save("TS_1", "key", prediction())
    before = once.probability.clone(), once.variance.clone()
    twice = store.save("TS_1", "again", once)
    assert torch.equal(twice.probability, before[0]) and torch.equal(twice.variance, before[1])


def test_certain_answers_stay_certain(store):
    probability = torch.zeros(SHAPE)
    probability[2] = 1
    stored = store.save("TS_1", "key", Prediction(probability.clone(), None, 1))
    assert torch.equal(stored.probability, probability)
    assert torch.equal(store.load("TS_1", "key", device=CPU).probability, probability)


def test_tensors_of_the_predictor_are_taken(store):
    """They are made in inference mode, which forbids changing them outside."""
    with torch.inference_mode():
        made = prediction()
    assert torch.equal(store.save("TS_1", "key", made).probability, store.load("TS_1", "key", device=CPU).probability)


def test_not_a_number_is_refused(store):
    broken = prediction()
    broken.probability[2, 0, 0, 0] = float("nan")
    with pytest.raises(ValueError, match="not a number"):
        store.save("TS_1", "key", broken)
    assert entries(store) == []


def test_an_entry_is_plain_zarr(store):
    saved = store.save("TS_1", "key", prediction())
    group = zarr.open_group(zarr.storage.ZipStore(store.folder / f"TS_1-key{SUFFIX}", mode="r"), mode="r")
    assert group["probability"][:] / LEVELS == pytest.approx(saved.probability[1:].numpy(), abs=1e-6)


def test_made_once(store):
    calls = []

    def make():
        calls.append(1)
        return prediction()

    maps = [store.load_or_make("TS_1", "key", make, device=CPU, remake=again) for again in (False, False, True)]
    assert len(calls) == 2 and all(torch.equal(one.probability, maps[0].probability) for one in maps)
    assert store.load("TS_2", "key", device=CPU) is None and store.load("TS_1", "other", device=CPU) is None


# --- Keys ---------------------------------------------------------------------------------------------
@pytest.fixture
def files(tmp_path):
    for name in ("a.ckpt", "b.ckpt", "TS.zarr"):
        (tmp_path / name).write_bytes(name.encode())
    return {"checkpoints": [tmp_path / "a.ckpt"], "tomogram": tmp_path / "TS.zarr", "settings": SETTINGS}


@pytest.mark.parametrize(
    "change",
    [
        lambda f: {**f, "checkpoints": [f["checkpoints"][0].with_name("b.ckpt")]},
        lambda f: {**f, "checkpoints": [*f["checkpoints"], f["checkpoints"][0].with_name("b.ckpt")]},
        lambda f: {**f, "checkpoints": []},
        lambda f: {**f, "tomogram": f["checkpoints"][0]},
        *(
            lambda f, name=name, value=value: {**f, "settings": {**SETTINGS, name: value}}
            for name, value in (
                ("window_zyx", (64, 64, 72)),
                ("overlap", 0.5),
                ("tta_group", "d2"),
                ("norm_percentiles", None),
                ("tilt_axis", "x"),
            )
        ),
    ],
)
def test_every_ingredient_makes_another_key(files, change):
    assert map_key(**change(files)) != map_key(**files)


def test_a_key_knows_contents_and_not_names(files, tmp_path):
    before = map_key(**files)
    copy = tmp_path / "copy.ckpt"
    copy.write_bytes(files["checkpoints"][0].read_bytes())
    assert map_key(**{**files, "checkpoints": [copy]}) == before
    copy.write_bytes(b"trained on")
    assert map_key(**{**files, "checkpoints": [copy]}) != before
    files["tomogram"].write_bytes(b"another volume")
    assert map_key(**files) != before


def test_a_new_format_forgets_the_old_entries(files, monkeypatch):
    before = map_key(**files)
    monkeypatch.setattr(map_store, "FORMAT", map_store.FORMAT + 1)
    assert map_key(**files) != before


# --- The quota ----------------------------------------------------------------------------------------
def filled(tmp_path, names, room):
    """A store with entries of those names, used in that order, and room for so many of them."""
    store = MapStore(tmp_path / "maps", limit_gb=1.0)
    for age, name in enumerate(names):
        store.save(name, "k", prediction())
        os.utime(store.folder / f"{name}-k{SUFFIX}", (1000 + age, 1000 + age))
    size = (store.folder / f"{names[0]}-k{SUFFIX}").stat().st_size
    return MapStore(store.folder, limit_gb=(room + 0.5) * size / 1e9)


def test_the_oldest_go_first(tmp_path):
    store = filled(tmp_path, "abc", room=3)
    store.save("d", "k", prediction())
    assert entries(store) == ["b-k", "c-k", "d-k"]
    MapStore(store.folder, store.limit_gb / 2).save("e", "k", prediction())
    assert entries(store) == ["e-k"]


def test_what_was_read_is_young_again(tmp_path):
    store = filled(tmp_path, "abc", room=3)
    store.load("a", "k", device=CPU)
    store.save("d", "k", prediction())
    assert entries(store) == ["a-k", "c-k", "d-k"]


def test_replacing_an_entry_needs_no_room(tmp_path):
    store = filled(tmp_path, "abc", room=3)
    store.save("b", "k", prediction())
    assert entries(store) == ["a-k", "b-k", "c-k"]


def test_what_is_in_use_stays(tmp_path):
    store = filled(tmp_path, "abc", room=2)
    with store._locked(store._path("a", "k")):
        store.save("d", "k", prediction())
    assert entries(store) == ["a-k", "d-k"]


def test_one_entry_is_always_kept(tmp_path):
    store = MapStore(tmp_path, limit_gb=0.0)
    for name in "ab":
        saved = store.save(name, "k", prediction())
        assert torch.equal(store.load(name, "k", device=CPU).probability, saved.probability)
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
    expected = store.save("TS_1", "key", prediction())
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    with pytest.warns(UserWarning, match="damaged"):
        made = store.load_or_make("TS_1", "key", prediction, device=CPU)
    assert torch.equal(made.probability, expected.probability)
    assert torch.equal(store.load("TS_1", "key", device=CPU).probability, expected.probability)


def test_an_error_while_writing_leaves_the_old_entry(store, monkeypatch):
    old = store.save("TS_1", "key", prediction())
    monkeypatch.setattr(MapStore, "_make_room", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        store.save("TS_1", "key", prediction(seed=1))
    assert entries(store) == ["TS_1-key"]
    assert torch.equal(store.load("TS_1", "key", device=CPU).probability, old.probability)


def test_a_folder_that_cannot_be_written_to(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="choose another folder"):
        MapStore(tmp_path / "file" / "maps", 1.0).save("TS_1", "key", prediction())


def test_threads_that_want_the_same_map_make_it_once(store):
    calls, maps = [], []

    def make():
        calls.append(1)
        time.sleep(0.1)
        return prediction()

    threads = [
        threading.Thread(target=lambda: maps.append(store.load_or_make("TS_1", "key", make, device=CPU)))
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
from evaluation import map_files, map_store
from tests.test_map_store import prediction

def stay(group, name, maps, write=map_files._write_maps):
    write(group, name, maps)
    print("half", flush=True)
    time.sleep(60)

map_files._write_maps = stay
map_store.MapStore(Path(sys.argv[1]), 1.0).save("TS_1", "key", prediction())
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
                target=lambda: made.append(store.load_or_make("TS_1", "key", prediction, device=CPU))
            )
            waiting.start()
            waiting.join(0.3)
            assert waiting.is_alive() and not made
        finally:
            other.kill()
        waiting.join(30)
    assert entries(store) == ["TS_1-key"]
    assert torch.equal(made[0].probability, store.load("TS_1", "key", device=CPU).probability)
