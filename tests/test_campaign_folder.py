"""The folder of a campaign: held by one process, of one set of parameters, finished piece by piece."""

import numpy as np
import pandas as pd
import pytest

from data.picks import picks_table
from errors import InputError
from evaluation.campaign.configuration import Configuration
from evaluation.campaign.folder import CampaignFolder
from evaluation.exports import write_run_picks
from evaluation.finished import FINISHED, finished_notes, finishing, mark_finished
from inference.maps.timings import Timings
from particle_config import PARTICLES

CONFIGURATION = Configuration("df1", "best_single", "cc3d", "d2h")


@pytest.fixture
def folder(tmp_path):
    return CampaignFolder(tmp_path / "campaign")


def test_the_first_parameter_that_differs_is_named(folder):
    with folder.opened({"use_tta": True, "fixed": None, "names": ["a", "b"]}, command="x"):
        pass
    with folder.opened({"use_tta": True, "fixed": None, "names": ["a", "b"]}, command="y"):
        pass
    with (
        pytest.raises(InputError, match=r"--fixed not given, not 0\.5; give another --output_dir"),
        folder.opened({"use_tta": True, "fixed": 0.5, "names": ["a"]}, command="x"),
    ):
        pass


def test_one_campaign_at_a_time(folder):
    with (
        folder.opened({}, command=""),
        pytest.raises(InputError, match="another process is at work"),
        CampaignFolder(folder.root).opened({}, command=""),
    ):
        pass
    with folder.opened({}, command=""):
        pass


def test_temporary_files_of_a_killed_process_are_removed(folder):
    temporary = folder.picks_dir(CONFIGURATION, "fold_0", "TS_1").with_name(".TS_1.abc.partial")
    foreign = folder.root / "checkpoints" / ".fold_0-last.ckpt.abc.partial"
    for path in (temporary, foreign):
        path.mkdir(parents=True)
    with folder.opened({}, command=""):
        assert not temporary.exists() and foreign.exists()  # the latter is of another command, perhaps at work


def test_a_folder_that_cannot_be_written_to(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(InputError, match="choose another --output_dir"),
        CampaignFolder(tmp_path / "file").opened({}, command=""),
    ):
        pass


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
    assert finished_notes(tmp_path / "item", "key") is None  # damaged
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
        write_run_picks(item, "TS_1", table, PARTICLES)
    back = folder.picks(CONFIGURATION, "fold_0", ["TS_1"], PARTICLES)
    pd.testing.assert_frame_equal(back, table, check_exact=True)


def test_timings_pass_over_a_line_that_was_not_finished(tmp_path):
    timings = Timings(tmp_path / "timings.jsonl")
    assert timings.read().empty
    timings.write(work="network", key="a", seconds=1.23456)
    with timings.path.open("a") as file:
        file.write('{"work": "net')
    assert timings.read()["key"].tolist() == ["a"] and timings.read()["seconds"].tolist() == [1.2346]
