"""Laws that hold for any input: of coordinates, scores, orientations, suppression, and every format of picks.

Those of masks, threshold curves and localization stand in the tests of these modules.
"""

import itertools
import string

import numpy as np
import pandas as pd
import pytest
import starfile
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from test_writers import SPACING, export_of, mrc, picks_of, read_back

from data.names import fault_of_name
from data.picks import (
    picks_of_table,
    picks_table,
    read_ndjson,
    read_picks,
    read_picks_table,
    write_ndjson,
    write_picks,
    write_submission,
)
from data.tomogram import open_tomogram
from errors import InputError
from formats import read_points
from formats.export import PickedTomogram
from formats.point_groups import (
    ANGSTROM,
    CENTRED_ANGSTROM,
    CENTRED_PIXELS,
    MAP_ANGSTROM,
    PIXELS,
    UNBINNED_PIXELS,
    PointGroup,
    coordinates_zyx_angstrom,
)
from formats.tomogram_names import series_name
from formats.writers import WRITERS, check_file_names, write_formats
from metrics.fbeta import f_beta, match_counts, score_picks
from particle_config import PARTICLES
from postprocessing.suppression import unsuppressed
from tta.orientations import IDENTITY, ORIENTATIONS, apply, compose, inverse

# One folder serves all examples of a test.
IN_ONE_FOLDER = settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
PARTICLE_NAMES = [particle.name for particle in PARTICLES]
COORDINATES = st.floats(-1e6, 1e6, allow_subnormal=False)


def points(least=0, most=8, values=COORDINATES):
    """(N, 3) float64."""
    rows = st.lists(st.tuples(values, values, values), min_size=least, max_size=most, unique=True)
    return rows.map(lambda found: np.array(found, dtype=np.float64).reshape(-1, 3))


def on_a_grid(most=12):
    """(N, 3) points that are often equally far from each other, or the same."""
    rows = st.lists(st.tuples(*[st.integers(0, 6)] * 3), max_size=most)
    return rows.map(lambda found: np.array(found, dtype=np.float64).reshape(-1, 3) / 2)


# Also what has a meaning in shells, tables, STAR files, XML, HTML and patterns of names.
LETTERS = string.ascii_letters + string.digits + "_-.+ é名²$#,;:&<>()[]{}%=@!~'\"*?|^`"
NAMES = st.text(LETTERS, min_size=1, max_size=12).filter(lambda name: fault_of_name(name) is None)


# --- Coordinates --------------------------------------------------------------------------------------
@given(points(values=st.floats(-1e4, 1e4)), st.tuples(*[st.integers(1, 400)] * 3), st.floats(0.5, 50), st.data())
def test_every_unit_means_the_same_places(zyx_voxels, shape, spacing, data):
    """Voxel i lies at i times the voxel size, however a file counts."""
    pixel = data.draw(st.floats(0.5, 50))
    origin = data.draw(st.tuples(*[st.floats(-1e3, 1e3)] * 3))
    xyz, size = zyx_voxels[:, ::-1] * spacing, np.array(shape[::-1])
    written = {
        ANGSTROM: xyz,
        CENTRED_ANGSTROM: xyz - size * spacing / 2,
        MAP_ANGSTROM: xyz + origin,
        PIXELS: xyz / pixel,
        UNBINNED_PIXELS: xyz / pixel,
        CENTRED_PIXELS: (xyz - size // 2 * spacing) / pixel,
    }
    for unit, coordinates in written.items():
        group = PointGroup("file", coordinates, unit, pixel_size_angstrom=pixel)
        grid = {"shape_zyx": shape, "voxel_spacing_angstrom": spacing, "map_origin_xyz_angstrom": origin}
        np.testing.assert_allclose(coordinates_zyx_angstrom(group, **grid), zyx_voxels * spacing, atol=1e-6)


@IN_ONE_FOLDER
@given(points(), NAMES, st.data())
def test_picks_of_our_own_files_come_back_to_the_last_digit(tmp_path, zyx, name, data):
    fields = {}
    for field, least in (("scores", 0.0), ("uncertainties", 0.0), ("sizes_voxels", 0.0), ("confidences", 0.0)):
        values = st.floats(least, 1.0) if field == "scores" else st.floats(least, 1.0) | st.just(np.nan)
        fields[field] = np.array(data.draw(st.lists(values, min_size=len(zyx), max_size=len(zyx))))
    write_picks(tmp_path / "a.json", particle_name="ribosome", run_name=name, coordinates_zyx_angstrom=zyx, **fields)
    write_submission(tmp_path / "a.csv", picks_table(name, "ribosome", zyx, *fields.values()))
    write_ndjson(tmp_path / "a.ndjson", zyx)
    table = read_picks_table(tmp_path / "a.csv")
    found = [read_picks(tmp_path / "a.json"), *picks_of_table(name, table)]
    assert len(found) == (2 if len(zyx) else 1) and set(table["experiment"]) <= {name}
    for one in found:
        assert (one.particle_name, one.run_name) == ("ribosome", name)
        np.testing.assert_array_equal(one.coordinates_zyx_angstrom, zyx)
        for field, values in fields.items():
            known = getattr(one, field)
            assert np.isnan(values).all() if known is None else np.array_equal(known, values, equal_nan=True)
    np.testing.assert_array_equal(read_ndjson(tmp_path / "a.ndjson"), zyx)


# --- Every format -------------------------------------------------------------------------------------
SERIES = NAMES.filter(lambda name: series_name(name) == name)


@pytest.mark.filterwarnings("ignore:.*odd:UserWarning")
@pytest.mark.parametrize("name", WRITERS)
@settings(IN_ONE_FOLDER, max_examples=8, phases=[Phase.explicit, Phase.generate])  # to shrink takes minutes
@given(st.lists(SERIES, min_size=1, max_size=2, unique_by=str.lower), st.data())
def test_what_is_written_is_read_in_every_format(tmp_path_factory, name, runs, data):
    """Places to a thousandth of an angstrom, runs and particles by name, nothing more and nothing less."""
    folder = tmp_path_factory.mktemp("formats")
    shape = data.draw(st.tuples(*[st.integers(8, 40)] * 3))
    inside = st.tuples(*[st.floats(0, side - 1).map(lambda value: round(value, 2)) for side in shape])
    tomograms, expected = [], {}
    for number, run in enumerate(runs):
        path = mrc(folder / str(number) / f"{run}.mrc", np.zeros(shape))
        chosen = data.draw(st.lists(st.sampled_from(PARTICLE_NAMES), min_size=1, max_size=2, unique=True))
        voxels = {one: np.array(data.draw(st.lists(inside, min_size=1, max_size=4, unique=True))) for one in chosen}
        picks = [picks_of(run, particle, points) for particle, points in voxels.items()]
        tomograms.append(PickedTomogram.of(run, open_tomogram(path), picks))
        expected[run] = {particle: points * SPACING for particle, points in voxels.items()}
    export = export_of(tomograms)
    try:
        check_file_names(runs, [], [name])
    except InputError:  # a name that the format cannot hold is refused before the work, and in writing
        with pytest.raises(InputError, match=r"cannot stand in|files of one name"):
            write_formats([name], folder, export)
        return
    write_formats([name], folder, export)
    found = read_back(name, folder / name, export)
    assert {run: set(by) for run, by in found.items()} == {run: set(by) for run, by in expected.items()}
    for run, by_particle in expected.items():
        for particle, places in by_particle.items():
            np.testing.assert_allclose(found[run][particle], places, atol=2e-3)


# --- Orientations -------------------------------------------------------------------------------------
GROUP = st.sampled_from(ORIENTATIONS["oh"])


@given(GROUP, GROUP, GROUP, st.tuples(*[st.integers(1, 4)] * 3))
def test_orientations_are_a_group_that_acts_on_volumes(one, other, third, shape):
    volume = torch.arange(int(np.prod(shape))).reshape(shape)
    assert torch.equal(apply(apply(volume, one), other), apply(volume, compose(one, other)))
    assert torch.equal(apply(apply(volume, one), inverse(one)), volume)
    assert compose(one, inverse(one)) == compose(inverse(one), one) == IDENTITY
    assert compose(compose(one, other), third) == compose(one, compose(other, third))


def relion_matrix(rot, tilt, psi):
    """Euler_angles2matrix of RELION (src/euler.cpp), angles in degrees."""
    (ca, cb, cg), (sa, sb, sg) = np.cos(np.radians([rot, tilt, psi])), np.sin(np.radians([rot, tilt, psi]))
    return np.array(
        [
            [cg * cb * ca - sg * sa, cg * cb * sa + sg * ca, -cg * sb],
            [-sg * cb * ca - cg * sa, -sg * cb * sa + cg * ca, sg * sb],
            [sb * ca, sb * sa, cb],
        ]
    )


@IN_ONE_FOLDER
@given(st.tuples(*[st.floats(-360, 360)] * 3), st.tuples(*[st.floats(-50, 50)] * 3))
def test_shifts_of_refined_particles_are_turned_as_relion_turns_them(tmp_path, angles, origin):
    """Position = coordinate - A * origin, A the matrix of the subtomogram's angles."""
    table = dict(zip([f"rlnCenteredCoordinate{axis}Angst" for axis in "XYZ"], (10.0, -20.0, 30.0), strict=True))
    table |= dict(zip([f"rlnTomoSubtomogram{angle}" for angle in ("Rot", "Tilt", "Psi")], angles, strict=True))
    table |= dict(zip([f"rlnOrigin{axis}Angst" for axis in "XYZ"], origin, strict=True))
    starfile.write({"particles": pd.DataFrame([{"rlnTomoName": "TS_1", **table}])}, tmp_path / "a.star", overwrite=True)
    [group] = read_points(tmp_path / "a.star")
    np.testing.assert_allclose(group.shifts_xyz_angstrom[0], -relion_matrix(*angles) @ origin, atol=2e-3)


# --- Suppression --------------------------------------------------------------------------------------
@given(on_a_grid(), st.floats(0.25, 2.5), st.data())
def test_of_two_near_ones_the_stronger_stays(places, radius, data):
    scores = np.array(data.draw(st.lists(st.sampled_from([0.2, 0.5, 0.9]), min_size=len(places), max_size=len(places))))
    kept = unsuppressed(places, scores, radius)
    distances = np.linalg.norm(places[:, None] - places[None], axis=-1)
    assert all(distances[a, b] > radius for a, b in itertools.combinations(kept, 2))
    assert list(scores[kept]) == sorted(scores[kept], reverse=True)
    for gone in set(range(len(places))) - set(kept.tolist()):
        assert any(distances[gone, one] <= radius and scores[one] >= scores[gone] for one in kept)
    # Neither the order of the candidates nor those below a threshold play a part.
    order = np.array(data.draw(st.permutations(range(len(places)))), dtype=int)
    again = order[unsuppressed(places[order], scores[order], radius)]
    np.testing.assert_array_equal(places[again], places[kept])
    above = scores >= 0.5
    before = np.flatnonzero(above)[unsuppressed(places[above], scores[above], radius)]
    np.testing.assert_array_equal(places[before], places[kept[above[kept]]])


# --- Scores -------------------------------------------------------------------------------------------
@given(on_a_grid(), on_a_grid(), st.sampled_from([0.0, 0.5, 1.0, 1.2]), st.permutations(range(3)))
def test_hits_are_references_with_a_pick_in_range(candidates, references, radius, axes):
    distances = np.linalg.norm(references[:, None] - candidates[None], axis=-1)
    hits = int((distances <= radius).any(axis=1).sum()) if len(candidates) else 0
    expected = (hits, len(candidates) - hits, len(references) - hits)
    assert match_counts(candidates, references, radius) == expected
    turned = match_counts(candidates[::-1][:, axes], references[:, axes], radius)
    assert turned == expected


@given(st.integers(0, 50), st.integers(0, 50), st.integers(0, 50), st.floats(0.5, 8))
def test_f_beta_is_a_mean_that_more_hits_raise_and_more_mistakes_lower(tp, fp, fn, beta):
    value = f_beta(tp, fp, fn, beta)
    precision, recall = (tp / (tp + other) if tp + other else 0.0 for other in (fp, fn))
    assert min(precision, recall) - 1e-12 <= value <= max(precision, recall) + 1e-12
    assert f_beta(tp, fp + 1, fn, beta) <= value + 1e-12 and f_beta(tp, fp, fn + 1, beta) <= value + 1e-12
    assert f_beta(tp + 1, fp, fn, beta) >= value - 1e-12


@settings(max_examples=15)
@given(st.data())
def test_the_score_knows_no_order_of_rows_and_is_one_for_the_truth(data):
    runs = data.draw(st.lists(NAMES, min_size=1, max_size=3, unique=True))
    tables = []
    for run, particle in itertools.product(runs, PARTICLE_NAMES):
        # Far from all others.
        count = data.draw(st.integers(1, 3))
        tables.append(picks_table(run, particle, np.arange(3 * count).reshape(count, 3) * 1000.0 + len(tables)))
    truth = pd.concat(tables, ignore_index=True)
    assert score_picks(truth, truth).weighted == pytest.approx(1.0)
    rows = data.draw(st.permutations(range(len(truth))))
    some = truth.iloc[rows[: data.draw(st.integers(0, len(rows)))]]
    one, other = score_picks(some, truth), score_picks(some.sort_index(), truth.iloc[rows])
    assert one.weighted == other.weighted <= 1.0
    pd.testing.assert_frame_equal(one.per_run, other.per_run)
