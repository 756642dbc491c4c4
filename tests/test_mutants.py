"""What tests.mutants breaks is still there to be broken."""

import mutants
import pytest
from script_process import ROOT


@pytest.mark.parametrize("mutant", mutants.MUTANTS, ids=lambda mutant: mutant.name)
def test_its_text_is_found_once_and_its_tests_exist(mutant):
    assert (ROOT / mutant.file).read_text(encoding="utf-8").count(mutant.old) == 1
    assert mutant.old != mutant.new
    assert all((ROOT / "tests" / name).is_file() for name in mutant.tests.split())
