"""How scripts start, and how they end on a user's mistake."""

from command_line import run_script

import ast
import os
import subprocess
import sys
import warnings
from pathlib import Path

import mrcfile
import numpy as np
import pytest

from data.picks import write_picks
from errors import InputError

ROOT = Path(__file__).parents[1]


def test_input_error_is_one_line_and_exit_code_2(capsys):
    def main(argv):
        raise InputError("the file\n  is missing")

    with pytest.raises(SystemExit) as stop:
        run_script(main)
    assert stop.value.code == 2
    assert capsys.readouterr().err == "error: the file is missing\n"


def test_other_errors_are_bugs_and_keep_their_traceback():
    def main(argv):
        raise ValueError("a bug")

    with pytest.raises(ValueError, match="a bug"):
        run_script(main)


def test_warnings_are_one_line(monkeypatch):
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)
    run_script(lambda argv: None)
    assert warnings.formatwarning("no picks", UserWarning, "file.py", 3) == "warning: no picks\n"


@pytest.mark.parametrize(("given", "used"), [(None, "1"), ("0", "0")])
def test_large_arrays_lie_in_huge_pages_unless_the_user_says_otherwise(monkeypatch, given, used):
    monkeypatch.setenv("THP_MEM_ALLOC_ENABLE", given or "")
    if given is None:
        monkeypatch.delenv("THP_MEM_ALLOC_ENABLE")
    run_script(lambda argv: None)
    assert os.environ["THP_MEM_ALLOC_ENABLE"] == used


def test_scripts_draw_into_files_whatever_a_notebook_has_set():
    code = "import command_line, matplotlib; print(matplotlib.get_backend())"
    environment = {**os.environ, "MPLBACKEND": "module://a_backend_of_a_notebook"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip().lower() == "agg", done.stderr


def test_scripts_import_how_they_start_before_all_else():
    sources = [text for path in ROOT.glob("*.py") if "run_script(main)" in (text := path.read_text())]
    assert len(sources) > 5
    for source in sources:
        first = next(node for node in ast.parse(source).body if isinstance(node, ast.Import | ast.ImportFrom))
        assert getattr(first, "module", None) == "command_line"


def test_letters_that_the_terminal_does_not_have_end_no_script():
    code = "from command_line import run_script; run_script(lambda argv: print('TS é \\udcc3'))"
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0 and done.stdout == "TS \\xe9 \\udcc3\n", done.stderr


def test_names_of_files_in_a_locale_that_has_no_letters_for_them(tmp_path):
    folder = tmp_path / "train" / "static" / "ExperimentRuns" / "Kulturé" / "VoxelSpacing10.000"
    folder.mkdir(parents=True)
    with mrcfile.new(folder / "denoised.mrc") as file:
        file.set_data(np.ones((16, 16, 16), np.float32))
    picks = tmp_path / "train" / "overlay" / "ExperimentRuns" / "Kulturé" / "Picks" / "ribosome.json"
    write_picks(picks, particle_name="ribosome", run_name="Kulturé", coordinates_zyx_angstrom=np.full((1, 3), 80.0))
    variables = {"LC_ALL": "POSIX", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, str(ROOT / "prepare_mask_czi.py"), "--data_root", str(tmp_path)],
        env={**os.environ, **variables},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0 and "Kulturé" in done.stdout.decode(), done.stderr.decode()
