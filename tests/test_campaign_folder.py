"""The folder of a campaign: held by one command, finished piece by piece."""

import numpy as np
import pandas as pd
import pytest

from data.picks import picks_table, read_picks, read_picks_table
from evaluation.campaign.configuration import Configuration
from evaluation.campaign.folder import CampaignFolder
from evaluation.exports import write_run_table
from evaluation.finished import FINISHED, finished_notes, finishing, mark_finished
from evaluation.ownership import Command
from inference.maps.timings import Timings
from particle_config import PARTICLES

COMMAND = Command("python run_experiment_evaluation.py", {}, {})
CONFIGURATION = Configuration("df1", "best_single", "cc3d", "d2h")


@pytest.fixture
def folder(tmp_path):
    return CampaignFolder(tmp_path / "campaign")


def test_temporary_files_of_a_killed_process_are_removed(folder):
    temporary = folder.picks_dir(CONFIGURATION, "fold_0", "TS_1").with_name(".TS_1.abc.partial")
    foreign = folder.root / "checkpoints" / ".fold_0-last.ckpt.abc.partial"
    with folder.owned(COMMAND):
        pass
    for path in (temporary, foreign):
        path.mkdir(parents=True)
    with folder.owned(COMMAND):
        assert not temporary.exists() and foreign.exists()  # the latter is of another command, perhaps at work


def test_runs_that_are_gone_leave_no_picks(folder):
    with folder.owned(COMMAND):
        for name in ("TS_1", "TS_2"):
            folder.picks_dir(CONFIGURATION, "fold_0", name).mkdir(parents=True)
        picture = folder.detector_dir(CONFIGURATION, "fold_0") / "overlays" / "TS_2.jpg"
        picture.parent.mkdir()
        picture.write_text("")
    assert folder.remove_other_runs(["TS_1", "TS_3"]) == ["TS_2"]
    assert folder.picks_dir(CONFIGURATION, "fold_0", "TS_1").is_dir() and not picture.exists()
    assert not folder.picks_dir(CONFIGURATION, "fold_0", "TS_2").exists()


def test_all_configurations_are_replaced_and_nothing_else(folder):
    with folder.owned(COMMAND):
        folder.picks_dir(CONFIGURATION, "fold_0", "TS_1").mkdir(parents=True)
        (folder.root / "checkpoints" / "df1_a-b-c").mkdir(parents=True)
        folder.write_table("comparison_summary.csv", pd.DataFrame())
    with folder.owned(COMMAND, anew=True):
        assert not (folder.root / CONFIGURATION.folder).exists()
        assert not (folder.root / "comparison_summary.csv").exists()
        assert (folder.root / "checkpoints" / "df1_a-b-c").is_dir()


def test_finished_as_a_whole_and_from_the_same(tmp_path):
    with pytest.raises(ZeroDivisionError), finishing(tmp_path / "item", "key") as item:
        (item / "half").write_text("")
        raise ZeroDivisionError
    assert finished_notes(tmp_path / "item", "key") is None and not (tmp_path / "item").exists()
    with finishing(tmp_path / "item", "key", picks=3) as item:
        (item / "all").write_text("")
    assert finished_notes(tmp_path / "item", "key")["picks"] == 3
    assert finished_notes(tmp_path / "item", "other") is None
    (tmp_path / "item" / FINISHED).write_text("{")
    with pytest.warns(UserWarning, match="item: its results are damaged and made again"):
        assert finished_notes(tmp_path / "item", "key") is None
    mark_finished(tmp_path / "item", "other")
    assert finished_notes(tmp_path / "item", "key") is None and finished_notes(tmp_path / "item", "other")


def test_picks_come_back_as_they_were(folder):
    rng = np.random.default_rng(0)
    table = pd.concat(
        [
            picks_table(
                "TS_1",
                p.name,
                rng.uniform(size=(n, 3)),
                rng.uniform(size=n),
                [np.nan, *rng.uniform(size=n)][:n],
                rng.uniform(size=n),
                [*rng.uniform(size=n), np.nan][-n:] if n else [],
            )
            for n, p in enumerate(PARTICLES)
        ],
        ignore_index=True,
    )
    with finishing(folder.picks_dir(CONFIGURATION, "fold_0", "TS_1"), "key") as item:
        write_run_table(item, table)
    back = folder.export(CONFIGURATION, "fold_0", ["TS_1"], PARTICLES)
    pd.testing.assert_frame_equal(back, table, check_exact=True)
    picks_dir = folder.picks_dir(CONFIGURATION, "fold_0", "TS_1")
    written = {particle.name: read_picks(picks_dir / f"{particle.name}.json") for particle in PARTICLES}
    for name, rows in table.groupby("particle_type"):
        np.testing.assert_array_equal(written[name].coordinates_zyx_angstrom, rows[["z", "y", "x"]])
        np.testing.assert_array_equal(written[name].scores, rows["score"])
    assert len(written[PARTICLES[0].name].coordinates_zyx_angstrom) == 0  # a particle that was not found has a file too
    submission = read_picks_table(picks_dir.parents[1] / "submission.csv").drop(columns="id")
    pd.testing.assert_frame_equal(submission, table)


def test_timings_pass_over_a_line_that_was_not_finished(tmp_path):
    timings = Timings(tmp_path / "timings.jsonl")
    assert timings.read().empty
    timings.write(work="network", key="a", seconds=1.23456)
    with timings.path.open("a") as file:
        file.write('{"work": "net')
    assert timings.read()["key"].tolist() == ["a"] and timings.read()["seconds"].tolist() == [1.2346]


@pytest.mark.parametrize("file", ["table", FINISHED])
def test_results_of_which_a_byte_has_changed_are_made_again(tmp_path, file):
    with finishing(tmp_path / "item", "key", picks=3) as item:
        (item / "table").write_text("1.5,2.5")
    assert finished_notes(tmp_path / "item", "key")["picks"] == 3
    path = tmp_path / "item" / file
    path.write_text(path.read_text().replace("3" if file == FINISHED else "2.5", "4", 1))
    if "key" in path.read_text() or file == "table":
        with pytest.warns(UserWarning, match="item: its results are damaged and made again"):
            assert finished_notes(tmp_path / "item", "key") is None


def test_timings_pass_over_lines_that_are_no_timings(tmp_path):
    timings = Timings(tmp_path / "timings.jsonl")
    timings.path.write_bytes(b'[1]\n3\n\xff\n{"work": "a", "seconds": "x"}\n{"work": 1, "seconds": 1}\n{"work": "cut')
    timings.write(work="network", key="a", seconds=1.5)
    assert timings.read()["seconds"].tolist() == [1.5]
