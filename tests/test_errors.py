"""How scripts end on a user's mistake."""

import warnings

import pytest

from errors import InputError, run_script


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
