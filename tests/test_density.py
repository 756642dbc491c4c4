"""What grey values say of picks: which share of them is plausible, and which part of them is not."""

from pathlib import Path

import numpy as np
import pytest

from formats.density import GreyValues, density_verdict, grey_values, plausible_fraction, wrong_parts

SHAPE, SPACING, RADIUS = (48, 48, 48), 10.0, 40.0


def dark_spheres(centres, *, hollow=False):
    """Noise of deviation 1 with spheres (or shells) that are 2 darker."""
    volume = np.random.default_rng(1).normal(size=SHAPE)
    for centre in centres:
        distance = np.linalg.norm(np.moveaxis(np.indices(SHAPE), 0, -1) - centre, axis=-1) * SPACING / RADIUS
        volume[(distance <= 1) & (distance >= (0.65 if hollow else 0))] -= 2
    return volume.astype(np.float32)


def centres_of(count):
    """On a grid with 12 voxels between neighbours, so that none touch."""
    grid = np.stack(np.meshgrid(*[np.arange(6, 48, 12)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    return np.random.default_rng(2).permutation(grid)[:count]


def anywhere(count):
    return np.random.default_rng(3).uniform(0, 47, (count, 3))


def values_of(volume, voxels, *, run="TS_1", particle="spike", path="a.csv"):
    return GreyValues(run, particle, Path(path), *grey_values(volume, {"": voxels * SPACING}, SPACING, RADIUS))


@pytest.mark.parametrize(("right", "wrong"), [(20, 0), (18, 2), (10, 20), (15, 15)])
def test_the_share_of_picks_on_particles(right, wrong):
    centres = centres_of(right)
    found = values_of(dark_spheres(centres), np.concatenate([centres, anywhere(wrong)]))
    fraction, odds = plausible_fraction(found.share_darker)
    assert fraction == pytest.approx(right / (right + wrong), abs=0.12)
    is_plausible, words = density_verdict(found.darkness, found.share_darker)
    assert is_plausible == (right > 3 * wrong) and (odds >= 10) == (wrong > 0)
    if is_plausible:
        assert "as they should (about " in words and f"of {right + wrong} are plausible" in words
    else:
        assert words.startswith("only about ") and f"of {right + wrong} picks lie on darker voxels" in words


def test_all_picks_anywhere():
    found = values_of(dark_spheres(centres_of(10)), anywhere(30))
    is_plausible, words = density_verdict(found.darkness, found.share_darker)
    assert not is_plausible and words.startswith("picks do not lie on darker voxels")


def test_picks_of_low_contrast_are_not_taken_for_a_mixture():
    """All half a deviation darker than random places: none of them is wrong."""
    scores = np.random.default_rng(0).normal(-1, 1, 200)
    random = np.sort(np.random.default_rng(1).normal(size=2000))
    shares = (np.searchsorted(random, scores) + 0.5) / 2001
    assert plausible_fraction(shares)[1] < 10
    assert density_verdict({"": scores}, shares)[0]


def test_hollow_particles_by_their_shell():
    """Seen with the cube alone, picks in the empty middle would look like any other place."""
    centres = centres_of(12)
    found = values_of(dark_spheres(centres, hollow=True), centres)
    assert np.median(found.darkness[""]) < -3 and density_verdict(found.darkness, found.share_darker)[0]


@pytest.mark.parametrize("kind", ["run", "file", "particle"])
def test_the_part_that_is_wrong_is_named(kind):
    """Eight right picks of each of four parts, in one of which they lie anywhere."""
    centres = centres_of(8)
    volume = dark_spheres(centres)
    names = {"run": "TS_{}", "particle": "p{}", "path": "{}.csv"}
    own = "path" if kind == "file" else kind
    parts = [values_of(volume, anywhere(8) if i == 2 else centres, **{own: names[own].format(i)}) for i in range(4)]
    [sentence] = wrong_parts(parts, bright=False)
    assert sentence.startswith(f"{kind} {names[own].format(2)}: ") and "darker" in sentence
    assert wrong_parts(parts[:2], bright=False) == []


def test_a_wrong_particle_is_no_fault_of_the_runs():
    """In each of four runs eight of one kind are right and eight of another are not."""
    centres = centres_of(8)
    volume = dark_spheres(centres)
    parts = [
        values_of(volume, points, run=f"TS_{run}", particle=name)
        for run in range(4)
        for name, points in (("spike", centres), ("prion", anywhere(8)))
    ]
    [sentence] = wrong_parts(parts, bright=False)
    assert sentence.startswith("particle prion: ")


def test_where_all_are_wrong_no_part_is_named():
    volume = dark_spheres(centres_of(8))
    parts = [values_of(volume, anywhere(20)[i::2], particle=f"p{i}") for i in range(2)]
    assert wrong_parts(parts, bright=False) == []


def test_a_few_picks_are_no_part():
    centres = centres_of(8)
    volume = dark_spheres(centres)
    parts = [values_of(volume, centres), values_of(volume, anywhere(4), run="TS_2")]
    assert wrong_parts(parts, bright=False) == []


def test_a_mistake_is_named_only_if_it_explains_much():
    """Ten picks 1.5 deviations darker (4.7 standard errors) may be so by chance, ten that are 2 darker (6.3) not."""
    as_they_are = np.zeros(10)
    for darker, named in ((1.5, False), (2.0, True)):
        is_plausible, words = density_verdict({"": as_they_are, "y is flipped": as_they_are - darker}, bright=False)
        assert not is_plausible and ("likely y is flipped" in words) == named


def test_one_pick_on_a_particle_does_not_speak_for_the_others():
    """Nine anywhere and one far darker."""
    rng = np.random.default_rng(0)
    assert not density_verdict({"": np.array([*rng.normal(size=9), -20.0])}, bright=False)[0]
    assert density_verdict({"": rng.normal(-2, 1, size=10)}, bright=False)[0]


def test_a_mend_that_is_far_better_is_named_though_picks_are_dark():
    """Ten picks a deviation and a half darker, by chance, that are five darker with y and z exchanged."""
    values = {"": np.full(10, -1.5), "y and z are exchanged": np.full(10, -5.0)}
    is_plausible, words = density_verdict(values, bright=False)
    assert not is_plausible and "hardly lie on darker voxels" in words and "likely y and z are exchanged" in words
    assert density_verdict({**values, "y and z are exchanged": np.full(10, -2.5)}, bright=False)[0]
    assert not density_verdict({cause: -grey for cause, grey in values.items()}, bright=True)[0]
