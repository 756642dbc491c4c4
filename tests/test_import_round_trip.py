"""Drawn tomograms as MRC files and STAR files of RELION 5, imported again: grey values, positions and masks stay."""

import json

import drawn_data
import pytest
import starfile

from benchmarks import import_round_trip as round_trip
from data.picks import write_picks
from errors import InputError
from particle_config import PARTICLES, given_table

pytestmark = pytest.mark.filterwarnings("ignore:picks do not lie")


@pytest.fixture
def native(tmp_path, monkeypatch):
    # Off the grid, so that no voxel's centre lies exactly on the surface of a sphere.
    moved = {
        run: {name: [(z + 0.21, y - 0.34, x + 0.43) for z, y, x in points] for name, points in by_particle.items()}
        for run, by_particle in drawn_data.CENTRES.items()
    }
    monkeypatch.setattr(drawn_data, "CENTRES", moved)
    return drawn_data.write(tmp_path / "native")


def imported_from(native, folder):
    round_trip.export_as_files(native, folder / "files", tomo_type="denoised")
    round_trip.import_files(folder / "files", folder / "imported", tomo_type="denoised")
    return folder / "imported"


def test_nothing_changes_on_the_way(native, tmp_path):
    root = imported_from(native, tmp_path)
    found = round_trip.compare(native, root, tomo_type="denoised")
    assert (found.runs, found.grey_value, found.mask_voxels) == (2, 0, 0)
    assert found.position_angstrom < 1e-5 and found.spacing_angstrom < 1e-5
    # The unbinned volumes are larger than the binned ones: without their sizes the positions would be shifted.
    shapes = starfile.read(tmp_path / "files" / "tomograms.star")
    assert shapes["rlnTomoSizeX"].tolist() == [4 * drawn_data.SHAPE[2] + 2] * 2


def test_the_table_has_own_names_and_the_values_of_ours(native, tmp_path):
    table = given_table(str(imported_from(native, tmp_path) / "particles.json"))
    wanted = [p for p in PARTICLES if p.name in ("apo-ferritin", "ribosome", "thyroglobulin")]
    assert [p.name for p in table] == ["apoF", "ribo", "TG"]
    for own, ours in zip(table, wanted, strict=True):
        assert (own.radius_angstrom, own.score_weight, own.loss_weight, own.aliases) == (
            *(ours.radius_angstrom, ours.score_weight, ours.loss_weight),
            (ours.name,),
        )


def test_a_moved_and_a_missing_pick_are_noticed(native, tmp_path):
    root = imported_from(native, tmp_path)
    picks = root / "train" / "overlay" / "ExperimentRuns" / "TS_1" / "Picks"
    content = json.loads((picks / "TG.json").read_text())
    content["points"][0]["location"]["y"] += 30.0
    (picks / "TG.json").write_text(json.dumps(content))
    found = round_trip.compare(native, root, tomo_type="denoised")
    assert found.position_angstrom == pytest.approx(30.0, abs=1e-4) and found.mask_voxels > 100
    write_picks(picks / "TG.json", particle_name="TG", run_name="TS_1", coordinates_zyx_angstrom=[])
    with pytest.raises(InputError, match=r"run TS_1: .*other picks"):
        round_trip.compare(native, root, tomo_type="denoised")


def test_the_difference_stands_beside_the_range_over_the_seeds():
    def score(f4, names):
        return {"weighted_f4": f4, "per_particle": [{"particle": name, "f4": f4} for name in names]}

    ours, own = list(round_trip.OWN_NAMES), list(round_trip.OWN_NAMES.values())
    scores = {
        ("imported", 3): score(0.81, own),
        ("challenge", 3): score(0.80, ours),
        ("challenge", 4): score(0.84, ours),
    }
    text = round_trip.as_markdown(scores, 3)
    assert text.splitlines()[2].startswith("| challenge | 3 | 0.8000 | 0.8000 |")
    assert "imported - challenge: +0.0100" in text and "0.0400 (0.8000 to 0.8400)" in text
