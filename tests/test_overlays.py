"""Overlay pictures: what is drawn as a hit, a miss and a false pick."""

from dataclasses import replace
from unittest import mock

import matplotlib.image
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from data.picks import picks_table
from evaluation.overlays import FALSE, HIT, KIND_COLOURS, MISSED, PICK, _busiest_slice, _marks, save_overlay
from metrics.fbeta import COUNTS, score_picks
from particle_config import PARTICLES

pytestmark = pytest.mark.pictures


def table(*points, name="ribosome", scores=None):
    scores = np.ones(len(points)) if scores is None else np.array(scores)
    return picks_table("TS", name, np.array(points, dtype=float).reshape(-1, 3), scores)


def test_hits_misses_and_false_picks():
    marks, _ = _marks(table((0, 0, 0), (0, 0, 500)), table((0, 0, 70), (0, 900, 0)), PARTICLES)
    assert marks[["kind", "y", "x"]].values.tolist() == [[HIT, 0, 0], [FALSE, 0, 500], [MISSED, 900, 0]]


def test_without_truth_picks_are_just_picks():
    marks, counts = _marks(table((0, 0, 0)), None, PARTICLES)
    assert marks["kind"].tolist() == [PICK] and counts is None


@pytest.mark.parametrize("by_kind", [True, False])
@pytest.mark.parametrize(
    ("picks", "truth", "kinds", "texts"),
    [
        # Three picks at one reference: the best of them is the hit.
        (
            table((0, 0, 0), (0, 10, 0), (0, 20, 0), scores=(0.5, 0.9, 0.4)),
            table((0, 5, 0)),
            [FALSE, HIT, FALSE],
            ("1 hits, 2 false picks, 0 missed", "ribosome (1/1)"),
        ),
        # One pick that reaches two references is two hits of one candidate, so that false picks are negative.
        (
            table((0, 0, 0)),
            table((0, 50, 0), (0, -50, 0)),
            [HIT],
            ("2 hits, -1 false picks, 0 missed", "ribosome (2/2)"),
        ),
    ],
)
def test_counts_are_those_of_the_score(tmp_path, picks, truth, kinds, texts, by_kind):
    marks, counts = _marks(picks, truth, PARTICLES)
    assert marks["kind"].tolist() == kinds
    score = score_picks(picks, truth)
    assert counts.to_numpy().tolist() == score.per_particle[COUNTS].to_numpy().tolist()
    with mock.patch.object(Figure, "savefig", autospec=True) as saved:
        saved.side_effect = lambda figure, path, **_: path.touch()
        save_overlay(
            tmp_path / "TS.png",
            np.random.default_rng(0).normal(size=(20, 30, 40)),
            picks=picks,
            truth=truth,
            voxel_spacing_angstrom=10.0,
            particles=PARTICLES,
            title="TS",
            colour_by_kind=by_kind,
        )
    [figure] = saved.call_args.args[:1]
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert figure.get_suptitle() == f"TS: {texts[0]}"
    hits, false, missed = score.counts.sum(axis=(0, 1))
    expected = [f"hit ({hits})", f"false pick ({false})", f"missed ({missed})"] if by_kind else [texts[1]]
    assert [label for label in labels if label in expected] == expected


def test_the_slice_with_most_marks():
    marks = pd.DataFrame({"z": [200.0, 210, 220, 600], "y": 0.0, "x": 0.0})
    assert _busiest_slice(marks, 0, 80, 10.0) == 21
    assert _busiest_slice(marks.iloc[3:], 0, 80, 10.0) == 60  # the slab shows the very slice of a lone pick
    assert _busiest_slice(marks.iloc[:0], 0, 80, 10.0) == 40


@pytest.mark.parametrize("truth", [None, table((50, 50, 50))])
@pytest.mark.parametrize("picks", [table(), table((100, 100, 100), (0, 200, 390))])
def test_the_picture_is_written(tmp_path, picks, truth):
    volume = np.random.default_rng(0).normal(size=(20, 30, 40)).astype(np.float32)
    path = save_overlay(
        tmp_path / "new" / "TS.png",
        volume,
        picks=picks,
        truth=truth,
        voxel_spacing_angstrom=10.0,
        particles=PARTICLES,
        title="TS",
    )
    assert matplotlib.image.imread(path).std() > 0.05


def test_dollar_signs_in_names_are_no_formula(tmp_path):
    particles = [replace(PARTICLES[0], name="$\\frac{$")]
    options = {"picks": table(), "truth": None, "voxel_spacing_angstrom": 10.0, "particles": particles}
    assert save_overlay(tmp_path / "a.png", np.zeros((8, 9, 10)), title="$\\x$", **options).is_file()


def has_colour(picture, colour):
    wanted = [int(colour[place : place + 2], 16) for place in (1, 3, 5)]
    return bool((np.abs(picture.astype(int) - wanted).max(axis=-1) < 12).any())


@pytest.mark.parametrize("by_kind", [True, False])
def test_hits_misses_and_false_picks_in_colours_of_their_own(tmp_path, by_kind):
    path = save_overlay(
        tmp_path / "TS.png",
        np.zeros((20, 60, 60), np.float32),
        picks=table((100, 300, 150), (100, 300, 450)),
        truth=table((100, 300, 150), (100, 500, 300)),
        voxel_spacing_angstrom=10.0,
        particles=PARTICLES,
        title="TS",
        colour_by_kind=by_kind,
    )
    picture = np.round(255 * matplotlib.image.imread(path)[..., :3])
    picture = picture[: int(0.85 * len(picture))]  # without the legend
    assert [has_colour(picture, colour) for colour in KIND_COLOURS.values()] == [by_kind] * 3


def test_circles_lie_on_their_picks_and_are_as_large_as_the_slice_cuts_them(tmp_path):
    """The slice lies at z = 200 A; the second pick 50 A above, the third where the sphere is hardly cut."""
    picks = table((200, 50, 150), (250, 150, 100), (345, 100, 250), name="ribosome")
    with mock.patch.object(Figure, "savefig", autospec=True) as saved:
        saved.side_effect = lambda figure, path, **_: path.touch()
        where = {"voxel_spacing_angstrom": 10.0, "particles": PARTICLES, "title": "TS"}
        volume = np.random.default_rng(0).normal(size=(40, 20, 30))
        with mock.patch("evaluation.overlays._busiest_slice", lambda marks, axis, *_: 20 if axis == 0 else 10):
            save_overlay(tmp_path / "TS.png", volume, picks=picks, truth=None, **where)
    [figure] = saved.call_args.args[:1]
    panel = next(one for one in figure.axes if one.collections)
    [circles] = panel.collections
    boxes = [path.get_extents() for path in circles.get_paths()]
    radius = next(particle.radius_angstrom for particle in PARTICLES if particle.name == "ribosome")
    found = [((box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2, box.width / 2) for box in boxes]
    np.testing.assert_allclose(found, [(15, 5, radius / 10), (10, 15, np.sqrt(radius**2 - 50**2) / 10)], atol=1e-6)
