"""MRC headers that promise too much: refused within a second, in little memory."""

import gzip
import json
import struct
import subprocess
import sys
from pathlib import Path

import mrcfile
import numpy as np
import pytest

from data.mrc_header import read_header, read_planes
from data.tomogram import open_tomogram
from errors import InputError

ROOT = Path(__file__).parents[1]
VOXELS = np.arange(1, 211, dtype=np.float32).reshape(5, 6, 7)
# Resident memory only grows: what a file asked for is told from before by the peak.
MEASURE = """
import json, resource, sys, time
from data.tomogram import open_tomogram
from errors import InputError
for path in sys.argv[1:]:
    before, begin = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    try:
        open_tomogram(path, voxel_spacing_angstrom=10)
        text = "opened"
    except InputError as error:
        text = str(error)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(json.dumps([time.monotonic() - begin, grown, text]))
"""


def mrc_bytes(folder, **integers):
    """A small file; ``at_92=...`` writes a 32-bit integer at that byte."""
    with mrcfile.new(folder / "small.mrc", overwrite=True) as file:
        file.set_data(VOXELS)
        file.voxel_size = 10
    content = bytearray((folder / "small.mrc").read_bytes())
    for place, value in integers.items():
        struct.pack_into("<i", content, int(place.removeprefix("at_")), value)
    return bytes(content)


def test_sizes_are_refused_before_anything_is_allocated(tmp_path):
    whole_24_gb = {"at_0": 2000, "at_4": 2000, "at_8": 1500}
    zeros = bytes(2**20)
    bomb = mrc_bytes(tmp_path, **whole_24_gb)[:1024] + 64 * zeros
    files = {
        "extended.mrc": mrc_bytes(tmp_path, at_92=2**31 - 1),
        "extended.mrc.gz": gzip.compress(mrc_bytes(tmp_path, at_92=2**31 - 1)),
        "negative.mrc": mrc_bytes(tmp_path, at_92=-512),
        "large.mrc": mrc_bytes(tmp_path, at_0=2**31 - 1, at_4=2**31 - 1, at_8=2**31 - 1),
        "promise.mrc": mrc_bytes(tmp_path, **whole_24_gb),
        "bomb.mrc.gz": gzip.compress(bomb, 1),
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    paths = [str(tmp_path / name) for name in files]
    done = subprocess.run([sys.executable, "-c", MEASURE, *paths], capture_output=True, text=True, check=True, cwd=ROOT)
    for path, line in zip(paths, done.stdout.splitlines(), strict=True):
        seconds, megabytes, text = json.loads(line)
        assert text.startswith(f"{path}: not a readable MRC file"), text
        assert seconds < 1 and megabytes < 200, f"{path}: {seconds:.1f} s, {megabytes:.0f} MB"


def test_a_packed_file_is_not_read_far_behind_its_voxels(tmp_path):
    path = tmp_path / "a.mrc.gz"
    path.write_bytes(gzip.compress(mrc_bytes(tmp_path) + b"junk"))
    header = read_header(path)
    np.testing.assert_array_equal(read_planes(path, header, 1, 3), VOXELS[1:3])
    assert header.shape == (5, 6, 7) and header.spacing_zyx == pytest.approx((10, 10, 10))
    path.write_bytes(gzip.compress(mrc_bytes(tmp_path) + bytes(2**25)))
    with pytest.raises(ValueError, match="the file is longer than its header says"):
        read_planes(path, header, 1, 3)


def test_a_damaged_archive_that_gives_more_than_before_is_told(tmp_path):
    """Its checksum does not stand right behind the voxels then."""
    content = gzip.compress(mrc_bytes(tmp_path), mtime=0)
    path, told = tmp_path / "a.mrc.gz", 0
    for at in range(20, len(content) - 8, 7):
        path.write_bytes(content[:at] + content[at - 10 :])
        try:
            found = open_tomogram(path).read()
        except InputError:
            told += 1
        else:
            np.testing.assert_array_equal(found, VOXELS)
    assert told > 50


def test_the_checksum_of_a_packed_file_counts(tmp_path):
    path = tmp_path / "a.mrc.gz"
    content = bytearray(gzip.compress(mrc_bytes(tmp_path)))
    content[-6] ^= 1  # in the checksum behind the data
    path.write_bytes(content)
    header = read_header(path)
    with pytest.raises(OSError, match="CRC"):
        read_planes(path, header, 0, 1)


@pytest.mark.parametrize("suffix", [".mrc", ".mrc.gz", ".mrc.bz2"])
def test_other_files_of_that_name(tmp_path, suffix):
    for content in (b"", b"x" * 100, b"\0" * 2000):
        (tmp_path / f"a{suffix}").write_bytes(content)
        with pytest.raises(InputError):
            assert 0 in read_header(tmp_path / f"a{suffix}").shape
            raise InputError
