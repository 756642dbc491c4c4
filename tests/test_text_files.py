"""Text and JSON files: whatever is wrong with one is one line, and nothing is waited for."""

import os

import pytest

from data.text_files import is_finite_number, read_json, read_json_object, read_text
from errors import InputError


@pytest.mark.parametrize("read", [read_text, read_json])
def test_pipes_devices_and_folders_are_refused_at_once(tmp_path, read):
    os.mkfifo(tmp_path / "pipe.json")
    (tmp_path / "zero.json").symlink_to("/dev/zero")
    for path in (tmp_path / "pipe.json", tmp_path / "zero.json", tmp_path):
        with pytest.raises(InputError, match="not a regular file; give one") as error:
            read(path)
        assert str(path) in str(error.value)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"\xff\xfe{}", b"[" * 100_000, b"9" * 5000, b'{"a": "' + b"\\ud800" * 2],
    ids=["empty", "half", "no UTF-8", "too deep", "too many digits", "half a text"],
)
def test_what_is_no_json_is_one_line(tmp_path, content):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(InputError, match=r"a\.json: not a readable picks file \(.+\); restore it$"):
        read_json(tmp_path / "a.json", what="picks file")


def test_byte_order_mark_and_line_ends(tmp_path):
    (tmp_path / "a.json").write_bytes(b'\xef\xbb\xbf{"a":\r\n1}')
    assert read_json_object(tmp_path / "a.json") == {"a": 1}
    assert read_text(tmp_path / "a.json") == '{"a":\n1}'


@pytest.mark.parametrize("content", ["[1]", "3", "null", '"x"'])
def test_an_object_has_names(tmp_path, content):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(InputError, match="no names and values inside"):
        read_json_object(tmp_path / "a.json")


def test_numbers_that_a_float_can_hold():
    assert all(map(is_finite_number, (0, -1, 1.5, 10**30, 1e308)))
    assert not any(map(is_finite_number, (True, None, "1", 10**400, float("nan"), float("inf"), [1])))
