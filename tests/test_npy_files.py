"""Arrays in .npy files: as they were written, or told to be damaged."""

import numpy as np
import pytest

from data.npy_files import open_npy

ARRAY = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)


@pytest.fixture
def path(tmp_path):
    np.save(tmp_path / "a.npy", ARRAY)
    return tmp_path / "a.npy"


def test_as_written_and_private(path):
    array = open_npy(path)
    np.testing.assert_array_equal(array, ARRAY)
    array[:] = 0
    np.testing.assert_array_equal(open_npy(path), ARRAY)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"False", b"True "),
        (b"|u1", b"|O8"),
        (b"|u1", b"|u8"),
        (b"(2, 3, 4)", b"(2, 3, 5)"),
        (b"(2, 3, 4)", b"(9**9**9)"),
        (b"(2, 3, 4)", b"(2, 3,-4)"),
        (b"(2, 3, 4)", b"(((((((("),
        (b"\x93NUMPY\x01", b"\x93NUMPY\x09"),
        (b"\x93NUMPY", b"PK\x03\x04xx"),
    ],
)
def test_a_damaged_header(path, old, new):
    content = path.read_bytes()
    assert content.count(old) == 1
    path.write_bytes(content.replace(old, new))
    with pytest.raises(ValueError, match=r"its header|bytes, its header promises"):
        open_npy(path)


@pytest.mark.parametrize("change", [lambda content: content[:-1], lambda content: content + b"x", lambda content: b""])
def test_more_or_fewer_bytes(path, change):
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(ValueError, match="header"):
        open_npy(path)


def test_an_archive_under_the_name_of_an_array(path):
    with path.open("wb") as file:
        np.savez(file, a=ARRAY)
    with pytest.raises(ValueError, match="its header is damaged"):
        open_npy(path)
