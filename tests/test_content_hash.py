"""What counts as the same content, and what does not."""

import os

import pytest

from data import content_hash as module
from data.content_hash import ContentHashes, content_hash, file_states, hash_of


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


def test_another_file_of_the_same_size_and_date_is_seen(folder):
    before = file_states(folder)
    (folder / "c/0").rename(folder / "old")
    (folder / "c/0").write_bytes(b"99")
    (folder / "old").unlink()
    os.utime(folder / "c/0", ns=(before[0][2], before[0][2]))
    assert file_states(folder)[0][:3] == before[0][:3] and file_states(folder) != before


def test_kept_hashes_are_read_by_other_processes(folder, tmp_path, monkeypatch):
    expected, hashes = content_hash(folder), ContentHashes(tmp_path / "hashes")
    assert hashes.of(folder) == expected
    monkeypatch.setattr(module, "content_hash", lambda path: "f" * 32)  # would read the files
    assert ContentHashes(tmp_path / "hashes").of(folder) == expected
    (folder / "c/0").write_bytes(b"99")
    assert hashes.of(folder) == "f" * 32
    assert len(list((tmp_path / "hashes").iterdir())) == 1  # the old one is replaced


@pytest.mark.parametrize("content", [b"", b"abc", b"\xff\xfe", b"0" * 32 + b" " + b"0" * 32])
def test_a_damaged_hash_is_made_again(folder, tmp_path, content):
    hashes = ContentHashes(tmp_path / "hashes")
    expected = hashes.of(folder)
    next((tmp_path / "hashes").iterdir()).write_bytes(content)
    assert hashes.of(folder) == expected


def test_states_name_every_file(folder):
    assert [(name, size) for name, size, *_ in file_states(folder)] == [("c/0", 2), ("c/1", 1), ("zarr.json", 2)]
    assert [name for name, *_ in file_states(folder / "zarr.json")] == ["."]


def test_plain_values():
    assert hash_of({"a": 1, "b": (2, None)}) == hash_of({"b": [2, None], "a": 1}) != hash_of({"a": 1, "b": [2, 0]})
    with pytest.raises(TypeError):
        hash_of({"a": object()})


def test_a_folder_that_takes_no_hashes_costs_time_alone(tmp_path):
    (tmp_path / "file").write_text("a")
    assert ContentHashes(tmp_path / "file" / "hashes").of(tmp_path / "file") == content_hash(tmp_path / "file")
