"""What counts as the same content, and what does not."""

import os

import pytest

from data import content_hash as module
from data.content_hash import content_hash, file_states, hash_of


@pytest.fixture
def folder(tmp_path):
    """Looks like a zarr."""
    for name, content in (("zarr.json", b"{}"), ("c/0", b"01"), ("c/1", b"2")):
        (tmp_path / "a.zarr" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "a.zarr" / name).write_bytes(content)
    return tmp_path / "a.zarr"


def test_a_copy_is_the_same(tmp_path, folder):
    before = content_hash(folder)
    folder.rename(tmp_path / "b.zarr")
    assert content_hash(tmp_path / "b.zarr") == before and len(before) == 32
    for name in ("one.ckpt", "two.ckpt"):
        (tmp_path / name).write_bytes(b"weights")
    assert content_hash(tmp_path / "one.ckpt") == content_hash(tmp_path / "two.ckpt") != before


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: (folder / "c/0").write_bytes(b"00"),  # of the same size
        lambda folder: (folder / "c/2").write_bytes(b""),
        lambda folder: (folder / "c/1").unlink(),
        lambda folder: (folder / "c/1").rename(folder / "c/2"),
        lambda folder: ((folder / "c/0").write_bytes(b"0"), (folder / "c/1").write_bytes(b"12")),
    ],
)
def test_every_change_is_seen(folder, change):
    before = content_hash(folder)
    change(folder)
    os.utime(folder / "zarr.json", ns=(1, 1))
    assert content_hash(folder) != before


def test_read_once_until_touched(folder, monkeypatch):
    reads = []
    digest = module.hashlib.file_digest
    monkeypatch.setattr(module.hashlib, "file_digest", lambda *arguments: reads.append(1) or digest(*arguments))
    before = content_hash(folder)
    assert content_hash(folder) == before and len(reads) == 3
    os.utime(folder / "c/0", ns=(1, 1))
    assert content_hash(folder) == before and len(reads) == 6


def test_states_name_every_file(folder):
    assert [(name, size) for name, size, _ in file_states(folder)] == [("c/0", 2), ("c/1", 1), ("zarr.json", 2)]
    assert [name for name, _, _ in file_states(folder / "zarr.json")] == ["."]


def test_plain_values():
    assert hash_of({"a": 1, "b": (2, None)}) == hash_of({"b": [2, None], "a": 1}) != hash_of({"a": 1, "b": [2, 0]})
    with pytest.raises(TypeError):
        hash_of({"a": object()})
