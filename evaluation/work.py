"""Work tomogram by tomogram: what is asked of each, and the loop over all of them in this process.

The same units of work can be done by other processes, on other machines, see evaluation.shards and cluster/.
"""

import ctypes
import gc
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Generic, Protocol, TypeVar

import torch

from errors import InputError
from evaluation.progress import ProgressBars
from inference.maps.network_maps import NetworkMaps
from inference.tomograms import SourceTomogram, read_ahead

# What ends the work on one tomogram, or with one network, and not that on the others.
FAILURES = (InputError, OSError, MemoryError, torch.OutOfMemoryError)


class Record(Protocol):
    """What is known of a unit of work once its files are written; small, whatever the work."""

    run_name: str

    @property
    def error(self) -> Exception | None:
        """One of FAILURES, where nothing could be done."""


def failures_of(records: Iterable[Record]) -> dict[str, Exception]:
    """Run name -> what went wrong, of those where something did."""
    return {record.run_name: record.error for record in records if record.error is not None}


def give_back_memory() -> None:
    """Free memory goes back to the system. In pieces, glibc would keep 3 MB more with every 100 tomograms.

    Pictures refer to themselves, 11 MB each: what is garbage is collected first.
    """
    gc.collect()
    with suppress(OSError, AttributeError):  # of another system
        ctypes.CDLL("libc.so.6").malloc_trim(0)


Done = TypeVar("Done", bound=Record)


class TomogramWork(Protocol, Generic[Done]):
    """All that is asked of one tomogram. Small to pickle: it names files, and holds neither voxels nor weights."""

    source: SourceTomogram

    def do(self, maps: NetworkMaps, progress: Callable[[float], None]) -> Done:
        """Do what is not finished, and write it; what goes wrong is in the record.

        The result depends on the work and the files that it names alone, and is the same whenever and wherever it is
        asked for.

        Parameters
        ----------
        progress : is told of voxels that go through a network
        """

    def failed(self, error: Exception) -> Done:
        """The record of work that could not be done."""

    def needs_voxels(self, maps: NetworkMaps) -> bool:
        """Whether the tomogram must be read for it; False where that cannot be known."""

    def missing_maps(self, maps: NetworkMaps) -> set[str]:
        """Keys of the networks' maps that it needs and that must be made; none where that cannot be known."""

    def in_words(self, record: Done) -> str:
        """A line of the tomogram."""


class Workers(Protocol):
    """Whoever does work: this process, a shard of several, or other processes.

    Attributes
    ----------
    here : this process, for what needs all tomograms
    afterwards : who does what follows on work that :meth:`prepare` has shared out
    """

    here: "InTurn"
    afterwards: "Workers"

    def records(self, work: Sequence[TomogramWork[Done]]) -> Iterator[Done]:
        """A record for each unit of work, as they are done; fewer where other shards have not done theirs."""

    def prepare(self, work: Sequence[TomogramWork]) -> dict[str, Exception] | None:
        """Have maps made that are then read ``here``; None: they are.

        Else other shards have not done theirs, and this one ends here: run name -> what went wrong in its own.
        """


class InTurn:
    """Does work in this process, one tomogram after the other; the next is read while this one is at work."""

    def __init__(self, maps: NetworkMaps, bars: ProgressBars) -> None:
        self.maps, self._bars = maps, bars
        self.here = self.afterwards = self

    def records(self, work: Sequence[TomogramWork[Done]]) -> Iterator[Done]:
        """A record for each unit of work, in their order; a line each is said."""
        by_source = {one.source: one for one in work}

        def needs_voxels(source: SourceTomogram) -> bool:
            return by_source[source].needs_voxels(self.maps)

        for source in self._bars.each(read_ahead(list(by_source), needs_voxels), "tomograms", total=len(by_source)):
            one = by_source[source]
            voxels = math.prod(source.tomogram.shape_zyx) * len(one.missing_maps(self.maps))
            with self._bars.voxels(voxels, source.name) as bar:
                record = one.do(self.maps, bar.update)
            give_back_memory()
            self._bars.say(one.in_words(record))
            yield record

    def prepare(self, work: Sequence[TomogramWork]) -> None:
        """Nothing: a map is made when it is needed."""
