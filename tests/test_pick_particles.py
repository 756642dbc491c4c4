"""Picking as a user does it: untrained networks on noise, from the command line to files of other programs."""

import json
import shutil
from unittest import mock

import mrcfile
import numpy as np
import pandas as pd
import pytest
import starfile
import tiny_campaign
from tiny_campaign import EVALUATED, NAMES, SHAPE, SPACING

import pick_particles as script
from data.picks import read_picks
from errors import InputError
from evaluation.picking import PickingRecord, PickingTask, check_mask
from evaluation.picking_results import MOST_ROWS, PickingResults
from evaluation.work import InTurn
from inference.predictor import Predictor
from inference.tomograms import SourceTomogram

FIXED = ["--fixed_plm_gpu_peak_thresh", "0.1", "--precision", "fp32", "--inference_window", "train"]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A checkpoint and two tomograms of a lab's names, without truth."""
    root = tmp_path_factory.mktemp("picking")
    tiny_campaign.write_checkpoint(root / "network.ckpt", fold=0, seed=1)
    for seed, name in enumerate(EVALUATED):
        write_tomogram(root / "tomograms" / f"rec_{name}_10.00Apx.mrc", seed)
    return root


def write_tomogram(path, seed):
    path.parent.mkdir(exist_ok=True)
    with mrcfile.new(path) as file:
        file.set_data(np.random.default_rng(seed).normal(size=SHAPE).astype(np.float32))
        file.voxel_size = SPACING


def pick(world, *words, out="out", tomograms=("tomograms",)):
    inputs = ["--tomograms", *(str(world / one) for one in tomograms)]
    script.main(
        [
            *("--model_path", str(world / "network.ckpt"), *inputs, "--output_dir", str(world / out)),
            *("--cache_dir", str(world / "cache"), *FIXED, *map(str, words)),
        ]
    )
    return pd.read_csv(world / out / "picks.csv")


@pytest.fixture(scope="module")
def picked(world):
    return pick(world, "--formats", "relion5", "csv", out="all")


def no_network():
    return mock.patch.object(Predictor, "__call__", side_effect=AssertionError("a network ran"))


def no_reading():
    return mock.patch.object(SourceTomogram, "_read", side_effect=AssertionError("a tomogram was read"))


def test_what_is_written(world, picked):
    out = world / "all"
    assert set(picked["experiment"]) == set(EVALUATED) and len(picked) > 50
    assert list(picked.columns) == ["id", *["experiment", "particle_type", "x", "y", "z"], *script_columns()]
    for name in EVALUATED:
        assert (out / "overlays" / f"{name}.png").is_file()
        assert sorted(path.stem for path in (out / "picks" / name).glob("[!.]*.json")) == sorted(NAMES)
    summary = json.loads((out / "summary.json").read_text())
    assert {name: sum(one["picks"].values()) for name, one in summary["tomograms"].items()} == dict(
        picked["experiment"].value_counts()
    )
    picks = read_picks(out / "picks" / "TS_7" / "ribosome.json")
    rows = picked[(picked["experiment"] == "TS_7") & (picked["particle_type"] == "ribosome")]
    np.testing.assert_allclose(picks.coordinates_zyx_angstrom, rows[["z", "y", "x"]])
    # Formats have the same picks: RELION's count from the middle of the volume.
    assert len(pd.read_csv(out / "csv" / "picks.csv")) == len(picked)
    star = starfile.read(out / "relion5" / "ribosome.star", always_dict=True)["particles"]
    star = star[star["rlnTomoName"] == "TS_7"]
    middle = SPACING * np.array(SHAPE[::-1]) / 2
    centred = [f"rlnCenteredCoordinate{axis}Angst" for axis in "XYZ"]
    np.testing.assert_allclose(star[centred] + middle, rows[["x", "y", "z"]], atol=1e-3)


def script_columns():
    return ["score", "uncertainty", "size_voxels", "confidence"]


def test_other_choices_run_no_network_and_leave_nothing_of_before(world, picked, capsys):
    shutil.copytree(world / "all", world / "choices")
    with no_network():
        fewer = pick(world, "--particles", "ribosome", "--max_per_tomogram", "3", "--formats", "csv", out="choices")
    best = picked[picked["particle_type"] == "ribosome"].groupby("experiment")["score"].nlargest(3)
    assert sorted(fewer["score"]) == sorted(best)
    page = (world / "choices" / "gallery.html").read_text()
    assert "ribosome" in page and "thyroglobulin" not in page
    assert [path.stem for path in (world / "choices" / "picks" / "TS_7").glob("[!.]*.json")] == ["ribosome"]
    assert not list((world / "choices" / "relion5").rglob("*.star"))
    assert "removed relion5: of other picks; give them in --formats again" in capsys.readouterr().out
    with no_network():
        assert pick(world, out="choices").equals(picked)


def test_a_finished_command_reads_no_tomogram_again(world, picked):
    shutil.copytree(world / "all", world / "again")
    with no_network(), no_reading():
        assert pick(world, out="again").equals(picked)


def test_a_killed_command_goes_on(world, picked):
    """The second tomogram ends it; its picks are then found, and those of the first are not found again."""
    with mock.patch.object(InTurn, "records", first_only), pytest.raises(KeyboardInterrupt):
        pick(world, out="killed")
    assert [path.name for path in (world / "killed" / "picks").iterdir()] == ["TS_7"]
    read = []
    before = SourceTomogram._read
    with mock.patch.object(SourceTomogram, "_read", lambda self: (read.append(self.name), before(self))[1]):
        assert pick(world, out="killed").equals(picked)
    assert read == ["TS_8"]


def first_only(in_turn, tasks):
    yield tasks[0].do(in_turn.maps)
    raise KeyboardInterrupt


def test_more_tomograms_may_follow_and_fewer_may_not(world):
    write_tomogram(world / "more" / "TS_9.mrc", 5)
    pick(world, "--limit_tomos_by_id", "TS_7", out="growing")
    grown = pick(world, out="growing", tomograms=("tomograms", "more"))
    assert set(grown["experiment"]) == {*EVALUATED, "TS_9"}
    with pytest.raises(InputError, match="holds picks of TS_9, which are not among the tomograms"):
        pick(world, out="growing")
    pick(world, "--force_rerun", out="growing")
    assert not (world / "growing" / "picks" / "TS_9").exists()


def test_masks_of_the_tomograms(world, picked):
    mask = np.zeros([n // 2 for n in SHAPE], np.int8)
    mask[:, :8] = 1
    for name in EVALUATED:
        (world / "masks").mkdir(exist_ok=True)
        with mrcfile.new(world / "masks" / f"{name}_membrane.mrc", mask):
            pass
    both = [
        pick(world, "--mask_dir", world / "masks", "--mask_keep", side, out="masked") for side in ("inside", "outside")
    ]
    # The face of the 16th of 32 voxels.
    assert both[0]["y"].max() < 155 <= both[1]["y"].min()
    assert len(both[0]) + len(both[1]) == len(picked)
    for path in (world / "masks").iterdir():  # the same names with other voxels
        with mrcfile.new(path, 1 - mask, overwrite=True):
            pass
    pd.testing.assert_frame_equal(
        pick(world, "--mask_dir", world / "masks", "--mask_keep", "outside", out="masked"), both[0]
    )
    with pytest.raises(InputError, match=r"10 x 20 x 20 voxels \(z, y, x\), its tomogram 24 x 32 x 32"):
        with mrcfile.new(world / "other.mrc", np.zeros((10, 20, 20), np.int8)):
            pass
        check_mask(world / "other.mrc", SHAPE)


def test_the_edge_is_that_of_the_tomogram(world, picked):
    """The volume reaches from -5 to 235 angstrom in z, to 315 in y and x."""
    inner = pick(world, "--exclude_edge_angstrom", "60", out="edge")
    kept = picked[picked["z"].between(55, 175) & picked["y"].between(55, 255) & picked["x"].between(55, 255)]
    assert 0 < len(inner) < len(picked)
    np.testing.assert_allclose(inner[["x", "y", "z"]], kept[["x", "y", "z"]])


def test_tomograms_of_one_tilt_series_matter_to_formats_that_name_it_alone(world):
    """Names in a data set are taken as they are: TS_1 and TS_1_rec are reconstructions of one series."""
    for name in ("TS_1", "TS_1_rec"):
        tiny_campaign.write_run(world / "twins", name, 3)
    pick(world, "--formats", "imod", out="twins_out", tomograms=("twins",))
    with no_network(), pytest.raises(InputError, match="TS_1 and TS_1_rec are both of tilt series 'TS_1'"):
        pick(world, "--formats", "warp", out="twins_warp", tomograms=("twins",))


def test_names_that_would_be_one_file_are_told_before_the_work(world):
    for name in ("TS 1", "TS_1"):
        tiny_campaign.write_run(world / "alike", name, 3)
    with no_network(), pytest.raises(InputError, match="would have files of one name"):
        pick(world, "--formats", "imod", out="alike_out", tomograms=("alike",))


def test_a_tomogram_that_cannot_be_read_is_named_at_the_end(world, capsys):
    shutil.copytree(world / "tomograms", world / "damaged")
    with mrcfile.mmap(world / "damaged" / "rec_TS_8_10.00Apx.mrc", "r+") as file:
        file.data[3, 4, 5] = np.nan
    with pytest.raises(SystemExit) as end:
        pick(world, out="failed", tomograms=("damaged",))
    assert end.value.code == 1 and "failed    TS_8: " in capsys.readouterr().err
    assert json.loads((world / "failed" / "summary.json").read_text())["failed_tomograms"].keys() == {"TS_8"}
    assert set(pd.read_csv(world / "failed" / "picks.csv")["experiment"]) == {"TS_7"}


def test_a_tomogram_that_is_damaged_later_is_in_no_table_and_on_no_page(world):
    shutil.copytree(world / "tomograms", world / "later")
    pick(world, "--formats", "csv", out="later_out", tomograms=("later",))
    (world / "later" / "rec_TS_8_10.00Apx.mrc").write_bytes(b"no MRC")
    with pytest.raises(SystemExit):
        pick(world, "--formats", "csv", out="later_out", tomograms=("later",))
    for name in ("picks.csv", "csv/picks.csv", "gallery.html"):
        content = (world / "later_out" / name).read_text()
        assert "TS_7" in content and "TS_8" not in content


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--min_confidence", "0.5"], "--min_confidence: picks of apo-ferritin, .* have no confidence"),
        (["--particles", "virus"], "--particles virus: not one of the networks' particles, which are apo-ferritin,"),
        (["--mask_keep", "outside"], "--mask_keep has no effect without --mask_dir"),
        (["--binning", "4"], "--binning has no effect without one of --formats relion5, warp, eman"),
        (["--tomo_name_template", "TS", "--formats", "warp"], "has no {name}"),
        (["--copick_config", "x.json"], "give either --tomograms or --copick_config"),
        (["--tta_merge", "logit"], "--tta_merge has no effect"),
        (["--limit_tomos_by_id", "TS_1"], "--limit_tomos_by_id 'TS_1': no such tomogram; there are: TS_7, TS_8"),
    ],
    ids=lambda one: " ".join(one) if isinstance(one, list) else "",
)
def test_mistakes_are_one_line_before_the_work(world, words, message):
    with no_network(), pytest.raises(InputError, match=message):
        pick(world, *words, out="none")
    assert not (world / "none").exists()


def test_many_tomograms_are_summed_up():
    records = [PickingRecord(f"TS_{n}", {"ribosome": n, "apo-ferritin": 0}) for n in range(MOST_ROWS + 1)]
    few, many = (
        PickingResults({one.run_name: one for one in some}, {}, {}).in_words() for some in (records[:3], records)
    )
    assert [line.split() for line in few.splitlines()[1:]] == [
        *(["TS_0", "0", "0"], ["TS_1", "1", "0"], ["TS_2", "2", "0"], ["all", "3", "0"])
    ]
    assert [line.split() for line in many.splitlines()[2:]] == [
        *(["all", "820", "0"], ["least", "0", "0"], ["median", "20", "0"], ["most", "40", "0"])
    ]


def test_lines_of_a_tomogram():
    done = PickingRecord("TS_1", {"ribosome": 3, "apo-ferritin": 0}, (), 1.23)
    in_words = PickingTask.in_words
    assert in_words(done) == "TS_1: 3 picks (3 ribosome), 1.2 s"
    assert in_words(PickingRecord("TS_1", {"ribosome": 0})) == "TS_1: 0 picks, finished before"
    assert in_words(PickingRecord("TS_1", error=InputError("not readable"))) == "TS_1: not readable"


def test_maps_are_saved_without_running_a_network_or_reading_a_tomogram(world, picked, capsys):
    shutil.copytree(world / "all", world / "maps")
    with no_network(), no_reading():
        pick(world, "--save_maps", "mrc", "--map_kind", "labels", out="maps")
    for name in EVALUATED:
        with mrcfile.open(world / "maps" / "maps" / name / "labels.mrc") as file:
            assert file.data.shape == tuple(-(-n // (file.voxel_size.x / SPACING)) for n in SHAPE)
    assert f"maps      {world / 'maps' / 'maps'}" in capsys.readouterr().out
