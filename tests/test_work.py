"""Work on one tomogram after the other: what it took is given back before the next."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest

from evaluation import work
from evaluation.progress import ProgressBars
from evaluation.work import InTurn, give_back_memory


@dataclass(frozen=True, eq=False)
class Source:
    name: str
    tomogram: SimpleNamespace

    def forget(self):
        pass


def resident_bytes():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(sys.platform != "linux", reason="of glibc")
def test_free_memory_goes_back_though_the_heap_ends_with_something_kept():
    block = 64 * 1024  # smaller than what glibc asks the system for by itself
    before = resident_bytes()
    blocks = [bytes([k % 256]) * block for k in range(3000)]
    last = blocks.pop()
    taken = resident_bytes() - before
    del blocks
    give_back_memory()
    assert resident_bytes() - before < 0.2 * taken and len(last) == block


def test_memory_is_given_back_after_each_tomogram(monkeypatch):
    order = []
    monkeypatch.setattr(work, "give_back_memory", lambda: order.append("given back"))

    class One:
        def __init__(self, name):
            self.source = Source(name, SimpleNamespace(shape_zyx=(1, 1, 1)))

        def needs_voxels(self, maps):
            return False

        def missing_maps(self, maps):
            return set()

        def do(self, maps, progress):
            order.append(self.source.name)
            return self.source.name

        def in_words(self, record):
            return record

    assert list(InTurn(None, ProgressBars()).records([One("a"), One("b")])) == ["a", "b"]
    assert order == ["a", "given back", "b", "given back"]
