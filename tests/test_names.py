"""Names that no folder, table or picture can hold are refused in one line, all others go everywhere."""

import argparse
import csv
import importlib

import numpy as np
import pandas as pd
import pytest

from data.czi import find_runs
from data.files import path_argument
from data.names import LONGEST_NAME, check_name, comment_argument, fault_of_name, name_argument, no_formula
from data.picks import picks_table, read_picks_table, write_submission
from docs.flags import MODULES
from errors import InputError
from formats.input_files import find_tomograms
from formats.tomogram_names import run_names, safe_name
from particle_file import LONGEST_NAME as LONGEST_PARTICLE_NAME
from particle_file import is_particle_name

pytestmark = pytest.mark.pictures

GOOD = [
    "TS_1",
    "_TS",
    "-TS",
    "-TS [2]",
    "$frac{$",
    "é",
    "名前",
    "a b",
    "a,b",
    'a"b',
    "a'b",
    "#1",
    "²",
    "100%",
    "a;b",
    "NA",
]
BAD = {
    "=1+1": "begins with one of",
    "+1": "begins with one of",
    "-1+1": "begins with one of",
    "-2": "begins with one of",
    "-a(1)": "begins with one of",
    "-a|b": "begins with one of",
    "@SUM": "begins with one of",
    ".hidden": "begins with one of",
    "..": "begins with one of",
    "../x": "slash",
    "/x": "slash",
    "a\\b": "slash",
    "": "empty",
    " a": "blank",
    "a\0b": "control",
    "a\nb": "control",
    "a\x1b[31m": "control",
    "a\u2028b": "line's end",
    "a\udcff": "UTF-8",
    "a" * 230: "230 bytes",
    "é" * 91: "182 bytes",
}


@pytest.mark.parametrize("name", GOOD)
def test_any_other_name_is_taken_and_comes_back_from_a_table(tmp_path, name):
    assert fault_of_name(name) is None and name_argument(name) == name
    write_submission(tmp_path / "a.csv", picks_table(name, "ribosome", np.ones((2, 3))))
    assert list(read_picks_table(tmp_path / "a.csv")["experiment"]) == [name] * 2


@pytest.mark.parametrize("name", BAD, ids=ascii)
def test_names_that_nothing_can_hold_are_refused_in_one_short_line(name):
    with pytest.raises(InputError, match=BAD[name]) as error:
        check_name(name, "run")
    with pytest.raises(argparse.ArgumentTypeError, match=BAD[name]):
        name_argument(name)
    assert len(str(error.value)) < 200 and str(error.value).isprintable()


@pytest.mark.parametrize("name", ["=1+1", "a\nb", "a\udcff", "a" * 230, " a"], ids=ascii)
def test_every_way_to_tomograms_refuses_them(tmp_path, name):
    folder = tmp_path / "train/static/ExperimentRuns" / name / "VoxelSpacing10.000"
    folder.mkdir(parents=True)
    with pytest.raises(InputError, match="the name of run"):
        find_runs(tmp_path)
    with pytest.raises(InputError, match="the name of tomogram"):
        run_names([tmp_path / f"{name}.mrc"] if name != " a" else [tmp_path / "-1.mrc"])


@pytest.mark.parametrize("module", MODULES)
def test_flags_that_name_something_say_so_to_the_parser(module):
    for action in importlib.import_module(module).build_parser()._actions:
        if action.option_strings[0] in NAMING:
            assert action.type in (name_argument, comment_argument), (module, action.option_strings)


NAMING = {"--experiment_name", "--experiment_names", "--comment", "--tomo_type", "--training_tomo_types"}


@pytest.mark.parametrize(
    ("module", "words"),
    [
        ("train", ["--experiment_name", "../x"]),
        ("train", ["--experiment_name", "/x"]),
        ("train", ["--comment", "a/b"]),
        ("run_experiment_evaluation", ["--experiment_names", "../x"]),
        ("run_experiment_evaluation", ["--experiment_names", "a", "--comment", "=1+1"]),
        ("prepare_mask_czi", ["--tomo_type", "../x"]),
    ],
)
def test_no_name_leads_out_of_its_folder(module, words, capsys):
    with pytest.raises(SystemExit) as error:
        importlib.import_module(module).build_parser().parse_args(words)
    assert error.value.code == 2 and f"error: argument {words[-2]}: " in capsys.readouterr().err


@pytest.mark.parametrize("text", ["a\0b", "a\udcff", "a/" + "b" * 256, "a\nb"], ids=ascii)
def test_what_can_be_no_path_is_refused(tmp_path, text):
    with pytest.raises(argparse.ArgumentTypeError):
        path_argument(text)
    with pytest.raises(InputError):
        find_tomograms([text])
    (tmp_path / "list.txt").write_bytes(b"there.mrc\n" + text.split("\n")[0].encode(errors="surrogateescape"))
    with pytest.raises(InputError):
        find_tomograms([str(tmp_path / "list.txt")])


def test_names_of_files_are_short_enough_for_temporary_ones():
    """The longest is that of a temporary folder for a tomogram's and a particle's ChimeraX markers."""
    assert len(f".{'a' * LONGEST_NAME}_{'b' * LONGEST_PARTICLE_NAME}.cmm.12345678.partial") <= 255
    assert len(safe_name("é" * 90).encode()) <= LONGEST_NAME
    assert is_particle_name("b" * 50) and not is_particle_name("b" * 51) and not is_particle_name("é" * 26)


def test_a_sentence_in_a_table_is_no_formula(tmp_path):
    sentences = ["=1+1", "-2", "@a", "a=1"]
    pd.DataFrame({"reason": [no_formula(one) for one in sentences]}).to_csv(tmp_path / "a.csv", index=False)
    with (tmp_path / "a.csv").open() as file:
        assert [row for [row] in csv.reader(file)][1:] == ["'=1+1", "'-2", "'@a", "a=1"]
