"""Mask previews: a picture comes out, of the slice with the most to see."""

import numpy as np
import pytest

from data.masks import make_mask
from data.previews import _richest_slice, save_mask_preview

pytestmark = pytest.mark.pictures


@pytest.mark.parametrize("picks", [{}, {"ribosome": np.array([[50.0, 100.0, 250.0], [40.0, 20.0, 0.0]])}])
def test_a_picture_is_written(tmp_path, picks):
    shape = (10, 20, 30)
    mask = make_mask(shape, picks, voxel_spacing_angstrom=10, radius_fraction=0.5)
    noise = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    save_mask_preview(
        tmp_path / "a.png", run_name="$\\frac{$", tomogram=noise, mask=mask, picks=picks, voxel_spacing_angstrom=10
    )
    assert (tmp_path / "a.png").read_bytes()[1:4] == b"PNG"
    assert len(list(tmp_path.iterdir())) == 1


def test_the_richest_slice_is_the_middle_most_of_the_best():
    centres = {"a": np.array([[1.0, 0, 0], [7.0, 0, 0], [7.4, 0, 0]]), "b": np.array([[7.0, 5, 5]])}
    assert _richest_slice(centres, {"a": 1.0, "b": 3.0}, axis=0, n=20) == 8
    assert _richest_slice({}, {}, axis=0, n=9) == 4
