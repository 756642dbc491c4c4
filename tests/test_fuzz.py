"""Damaged files of every kind, a few of the many of ``make fuzz``; and a reader with faults, which it must find."""

import time
from pathlib import Path

import pytest

from benchmarks import fuzz, fuzz_kinds
from benchmarks.fuzz_kinds import KINDS, Kind
from errors import InputError


def test_no_damaged_file_is_a_traceback_a_hang_or_silently_wrong():
    table, findings = fuzz.fuzz(6 * len(KINDS), seed=0)
    assert not findings, "\n".join(map(str, findings))
    often = [name for name, kind in KINDS.items() if kind.share == 1]
    assert (table.loc[often].sum(axis=1) == 6).all() and (table["refused"] > 0).sum() > len(KINDS) / 2


def test_a_number_makes_the_same_damage_again():
    once = [fuzz.fuzz(5, 1, ["CSV"], first=first)[0].loc["CSV"].to_list() for first in (0, 5)]
    assert fuzz.fuzz(10, 1, ["CSV"])[0].loc["CSV"].to_list() == [a + b for a, b in zip(*once, strict=True)]


def refuse(path: Path) -> str:
    raise InputError(f"{path} is damaged")


def fail(path: Path) -> str:
    raise KeyError("x")


@pytest.mark.parametrize(
    ("read", "has_checksum", "right", "outcome"),
    [
        (lambda path: "whole", True, True, "same"),
        (refuse, True, True, "refused"),
        (lambda path: fuzz_kinds.AGAIN, True, True, "refused"),
        (lambda path: "other", False, True, "changed"),
        (lambda path: "other", False, False, "wrong"),
        (lambda path: "other", True, True, "wrong"),
        (fail, True, True, "traceback"),
        (lambda path: time.sleep(5), True, True, "hang"),
    ],
)
def test_outcomes(tmp_path, monkeypatch, read, has_checksum, right, outcome):
    monkeypatch.setattr(fuzz, "SECONDS", 0.1)
    kind = Kind(lambda folder: folder, read, has_checksum, lambda path, value: right)
    assert fuzz.outcome_of(kind, tmp_path, "whole", forged=False)[0] == outcome
