"""How scripts start, and how they end on a user's mistake."""

from command_line import run_script

import ast
import errno
import os
import platform
import re
import shlex
import signal
import subprocess
import sys
import warnings
import zlib
from pathlib import Path

import mrcfile
import numpy as np
import pytest
import torch

from data.picks import write_picks
from errors import InputError, MachineError, raise_scarcity

ROOT = Path(__file__).parents[1]


def test_input_error_is_one_line_and_exit_code_2(capsys):
    def main(argv):
        raise InputError("the file\n  is missing")

    with pytest.raises(SystemExit) as stop:
        run_script(main)
    assert stop.value.code == 2
    assert capsys.readouterr().err == "error: the file is missing\n"


def ended_by(error, capsys):
    """Exit code of a script that the error ends, and what it says."""

    def main(argv):
        raise error

    with pytest.raises(SystemExit) as stop:
        run_script(main)
    return stop.value.code, capsys.readouterr().err


def test_other_errors_are_defects_and_keep_their_traceback(capsys):
    code, said = ended_by(ValueError("a bug"), capsys)
    assert code == 1 and "Traceback" in said and "ValueError: a bug" in said
    assert "this is a defect of ETFinder: please report it" in said
    assert f"torch {torch.__version__}" in said and f"python {platform.python_version()}" in said
    assert f"command   {shlex.join(sys.orig_argv)}" in said


def with_cause(error, cause):
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (MachineError("the machine is tired"), 1, "the machine is tired"),
        (FileNotFoundError(errno.ENOENT, "No such file", "/a/b"), 2, "/a/b: No such file; check the path"),
        (OSError(errno.ENAMETOOLONG, "File name too long", "/a/b"), 2, "/a/b: File name too long; check the path"),
        (OSError(errno.EXDEV, "Cross-device link", "/a", None, "/b"), 2, "/a -> /b: Cross-device link"),
        (PermissionError(errno.EACCES, "Permission denied", "/a/b"), 1, "/a/b: Permission denied; choose another"),
        (OSError(errno.EROFS, "Read-only file system", "/a/b"), 1, "/a/b: Read-only file system; choose another"),
        (OSError(errno.ENOSPC, "No space left on device"), 1, "No space left on device; make room"),
        (OSError(errno.EMFILE, "Too many open files", "/a"), 1, "/a: Too many open files; .*ulimit -n"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), 1, "out of memory .*; close other programs"),
        (OSError("4096 requested and 0 written"), 1, "4096 requested and 0 written"),
        (MemoryError(), 1, "out of memory; close other programs"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate"), 1, r"out of memory \(CUDA out of memory"),
        (with_cause(ValueError("a damaged file"), MemoryError("2 GB")), 1, r"out of memory \(2 GB\); close"),
        (ExceptionGroup("all", [KeyError(), MemoryError()]), 1, "out of memory; close"),
        (RuntimeError("can't start new thread"), 1, "can't start new thread; close other programs.*ulimit -u"),
        (
            BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"),
            1,
            "Resource temporarily unavailable; .*ulimit -u",
        ),
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed."), 1, "out of memory .*is killed"),
        (
            MemoryError("Caught MemoryError in DataLoader worker\n  line\nMemoryError: 3 GB"),
            1,
            r"out of memory \(3 GB\);",
        ),
        (InputError("Caught InputError in a worker\n  line\nerrors.InputError: bad picks"), 2, "bad picks$"),
        (
            UnicodeEncodeError("utf-8", "TS_\udcc3", 3, 4, "surrogates not allowed"),
            2,
            r"'TS_\\udcc3' holds bytes.*rename",
        ),
        (RecursionError("maximum recursion depth exceeded"), 2, "something in the input is nested too deep"),
        (ModuleNotFoundError("No module named 'zarr'"), 1, "No module named 'zarr'; install the requirements"),
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), 1, "Broken pipe; a process"),  # not of the output
    ],
    ids=repr,
)
def test_what_the_input_or_the_machine_causes_is_one_line(error, code, text, capsys):
    found, said = ended_by(error, capsys)
    assert found == code and said.count("\n") == 1
    assert re.match(f"error: {text}", said.rstrip("\n")), said


def test_a_defect_found_after_want_of_memory_was_mended_is_a_defect(capsys):
    try:
        raise MemoryError
    except MemoryError:
        error = ValueError("a bug")
    code, said = ended_by(error, capsys)
    assert code == 1 and "this is a defect" in said


ENDING = """
from command_line import run_script
import sys, time
def main(argv):
    print("ready", flush=True)
    exec(sys.argv[1])
run_script(main)
"""


def started(code, **options):
    """A script that says it is ready, then runs the code. Ctrl-C reaches it, though shells keep it from their jobs."""
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "cwd": ROOT, **options}
    heard = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.default_int_handler)}
    return subprocess.Popen([sys.executable, "-c", ENDING, code], **heard, **options)


@pytest.mark.parametrize(
    ("number", "code", "text"), [(signal.SIGINT, 130, "interrupted\n"), (signal.SIGTERM, 143, "terminated\n")]
)
def test_signals_end_a_script_in_one_line(number, code, text):
    with started("time.sleep(60)") as script:
        assert script.stdout.readline() == "ready\n"
        script.send_signal(number)
        assert script.communicate(timeout=60) == ("", text) and script.returncode == code


def test_output_that_nobody_reads_ends_a_script_without_a_word():
    for code in ("print('x')", "[print(i) for i in range(100_000)]", "print('x' * 100_000); raise ValueError"):
        with started(f"sys.stdin.readline(); {code}", stdin=subprocess.PIPE) as script:
            script.stdout.readline()
            script.stdout.close()
            script.stdin.close()
            assert script.wait(timeout=60) == 128 + signal.SIGPIPE and script.stderr.read() == ""


def test_output_into_a_full_disk_is_an_error():
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full")
    with Path("/dev/full").open("w") as full, started("sys.exit(0)", stdout=full) as script:
        _, said = script.communicate(timeout=60)
    assert script.returncode == 1 and said.startswith("error: ") and said.count("\n") == 1


def test_errors_in_importing_are_told_as_those_of_a_script(tmp_path):
    code = "import command_line; raise MemoryError"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 1 and done.stderr.startswith("error: out of memory")


# --- Want of memory, threads or open files is not the file's fault -------------------------------------
def test_what_ran_out_is_raised_instead_of_blaming_the_file():
    with pytest.raises(MemoryError):
        raise_scarcity(MemoryError())
    with pytest.raises(MemoryError, match="2 GB"):
        raise_scarcity(with_cause(ValueError("damaged"), MemoryError("2 GB")))
    with pytest.raises(MachineError, match="ulimit -u"):
        raise_scarcity(RuntimeError("can't start new thread"))
    with pytest.raises(MachineError, match="ulimit -n"):
        raise_scarcity(OSError(errno.EMFILE, "Too many open files", "x"))
    for error in (ValueError("damaged"), FileNotFoundError(errno.ENOENT, "No such file"), zlib.error("Error -3")):
        raise_scarcity(error)


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


def test_the_garbage_collector_leaves_libraries_alone_so_that_it_comes_soon():
    code = "from command_line import run_script; import gc, pandas; "
    code += "run_script(lambda argv: print(gc.get_freeze_count(), len(gc.get_objects())))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    of_libraries, others = map(int, done.stdout.split())
    assert of_libraries > 20 * others, done.stderr


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
