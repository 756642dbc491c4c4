"""A folder of results belongs to one command: the same goes on, others are refused before anything is changed."""

import json
from contextlib import contextmanager

import pytest

from errors import InputError
from evaluation.ownership import PARAMETERS, Command, owned

LINE = "python eval_public_czi.py --model_path a"
FLAGS = {"use_tta": True, "fixed": None, "names": ["a", "b"], "data_root": "/data/czi"}
NETWORKS = {"fold_0.ckpt": "1", "fold_1.ckpt": "2"}
COMMAND = Command(LINE, FLAGS, NETWORKS)
RESULTS = ("picks", "scores.json")


@contextmanager
def opened(root, command=COMMAND, **options):
    with owned(root, command, results=RESULTS, temporary=(".*.partial",), **options):
        yield


@pytest.fixture
def folder(tmp_path):
    """With results of COMMAND, and a file of the user's."""
    with opened(tmp_path):
        (tmp_path / "picks" / "TS_1").mkdir(parents=True)
        (tmp_path / "scores.json").write_text("{}")
    (tmp_path / "notes.txt").write_text("mine")
    return tmp_path


def contents(root):
    return {path: path.read_text() for path in root.rglob("*") if path.is_file()}


def test_the_same_command_goes_on(folder):
    with opened(folder, Command(f"{LINE} --cache_dir elsewhere", FLAGS, NETWORKS)):
        assert (folder / "picks" / "TS_1").is_dir() and (folder / "scores.json").is_file()


def test_a_switch_that_is_newer_than_the_results_was_off(folder):
    with opened(folder, Command(LINE, {**FLAGS, "rescale": False, "limit": None}, NETWORKS)):
        pass
    today = Command(LINE, {**FLAGS, "of_today": True}, NETWORKS)
    with pytest.raises(InputError, match="--of_today not given, not True"), opened(folder, today):
        pass


@pytest.mark.parametrize(
    ("command", "text"),
    [
        (Command(LINE, {**FLAGS, "fixed": 0.5}, NETWORKS), r"--fixed not given, not 0\.5; give another --output_dir"),
        (Command(LINE, {**FLAGS, "names": ["a"]}, NETWORKS), r"--names a b, not a; .* or --force_rerun to replace"),
        (Command(LINE, {**FLAGS, "data_root": "/other"}, NETWORKS), "--data_root /data/czi, not /other"),
        (Command(LINE, FLAGS, {**NETWORKS, "fold_1.ckpt": "3"}), r"other networks: fold_1\.ckpt has changed since"),
        (Command(LINE, FLAGS, {"fold_0.ckpt": "1"}), r"fold_1\.ckpt is gone since"),
        (Command(LINE, FLAGS, {**NETWORKS, "fold_2.ckpt": "3"}), r"fold_2\.ckpt is new since"),
        (Command("python run_experiment_evaluation.py", {}, {}), r"results of eval_public_czi\.py; give another"),
    ],
)
def test_another_command_is_refused(folder, command, text):
    before = contents(folder)
    with pytest.raises(InputError, match=text), opened(folder, command):
        pass
    assert contents(folder) == before


def test_replaced_when_asked_for_and_the_files_of_others_stay(folder):
    other = Command(LINE, {**FLAGS, "fixed": 0.5}, {})
    with opened(folder, other, anew=True):
        assert not (folder / "picks").exists() and not (folder / "scores.json").exists()
        assert (folder / "notes.txt").is_file()
    assert json.loads((folder / PARAMETERS).read_text())["parameters"]["fixed"] == 0.5
    (folder / "scores.json").write_text("{}")
    campaign = Command("python run_experiment_evaluation.py", {}, {})
    with pytest.raises(InputError, match=r"of eval_public_czi\.py"), opened(folder, campaign, anew=True):
        pass


@pytest.mark.parametrize("anew", [False, True])
def test_results_of_which_nothing_is_known_are_not_touched(tmp_path, anew):
    (tmp_path / "scores.json").write_text("{}")
    with pytest.raises(InputError, match=rf"no {PARAMETERS} that says"), opened(tmp_path, anew=anew):
        pass
    assert (tmp_path / "scores.json").is_file()


def test_without_results_a_folder_is_free(tmp_path):
    """A command that ended in an error does not keep the corrected one out."""
    with pytest.raises(ZeroDivisionError), opened(tmp_path):
        raise ZeroDivisionError
    with opened(tmp_path, Command(LINE, {**FLAGS, "fixed": 0.5}, NETWORKS)):
        pass


def test_what_an_earlier_version_wrote_down(folder, monkeypatch):
    """Paths as typed, and no networks."""
    monkeypatch.chdir("/")
    content = {"command": LINE, "parameters": {**FLAGS, "data_root": "data/czi"}}
    (folder / PARAMETERS).write_text(json.dumps(content))
    elsewhere = Command(LINE, {**FLAGS, "data_root": "/elsewhere/data/czi"}, NETWORKS)
    with pytest.raises(InputError, match="--data_root data/czi, not /elsewhere"), opened(folder, elsewhere):
        pass
    with opened(folder):
        pass
    assert json.loads((folder / PARAMETERS).read_text())["networks"] == NETWORKS


def test_one_process_at_a_time(folder):
    with opened(folder), pytest.raises(InputError, match="another process is at work"), opened(folder):
        pass
    with opened(folder):
        pass


def test_a_folder_that_cannot_be_written_to(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="choose another --output_dir"), opened(tmp_path / "file"):
        pass
