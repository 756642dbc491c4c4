"""The networks' maps alone, tomogram by tomogram: what a campaign or a search on many machines begins with."""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from errors import one_line
from evaluation.work import FAILURES
from inference.ensembles import Ensemble, mean_of_maps
from inference.maps.network_maps import NetworkMaps
from inference.settings import InferenceSettings
from inference.tomograms import SourceTomogram

# A network, and how it takes tomograms.
Network = tuple[Path, InferenceSettings]


@dataclass(frozen=True)
class MapsRecord:
    """How many maps of a tomogram were made.

    Attributes
    ----------
    seconds : None when all were there
    error : one of evaluation.work.FAILURES, of the first network that failed
    """

    run_name: str
    made: int = 0
    seconds: float | None = None
    error: Exception | None = None


@dataclass(frozen=True)
class MapsWork:
    """The maps of some networks on one tomogram; a unit of work, see evaluation.work.TomogramWork."""

    source: SourceTomogram
    networks: tuple[Network, ...]

    def do(self, maps: NetworkMaps, progress: Callable[[float], None] = lambda voxels: None) -> MapsRecord:
        begin, made, first = time.perf_counter(), 0, None
        for checkpoint, inference in self.networks:
            try:
                network = _alone(checkpoint)
                if maps.missing(network, self.source, inference):
                    maps.combined(network, self.source, inference, progress)
                    made += 1
            except FAILURES as error:  # the other networks may do better
                first = first or error
        return MapsRecord(self.source.name, made, time.perf_counter() - begin if made else None, first)

    def failed(self, error: Exception) -> MapsRecord:
        return MapsRecord(self.source.name, error=error)

    def needs_voxels(self, maps: NetworkMaps) -> bool:
        return bool(self.missing_maps(maps))

    def missing_maps(self, maps: NetworkMaps) -> set[str]:
        try:
            return set().union(*(maps.missing(_alone(one), self.source, inference) for one, inference in self.networks))
        except FAILURES:  # comes again, and is noted, when its turn comes
            return set()

    @staticmethod
    def in_words(record: MapsRecord) -> str:
        made = f"{record.made} map{'s' * (record.made != 1)} made"
        if record.error is not None:
            return f"{record.run_name}: {made}; {one_line(record.error)}"
        return f"{record.run_name}: " + (
            "maps made before" if record.seconds is None else f"{made}, {record.seconds:.1f} s"
        )


def maps_work(asked: Iterable[tuple[SourceTomogram, Ensemble, InferenceSettings]]) -> list[MapsWork]:
    """Each map once, a unit of work for each tomogram."""
    by_source: dict[SourceTomogram, dict[Network, None]] = {}
    for source, ensemble, inference in asked:
        by_source.setdefault(source, {}).update(dict.fromkeys((member, inference) for member in ensemble.members))
    return [MapsWork(source, tuple(networks)) for source, networks in by_source.items()]


def single_maps(work: Sequence[MapsWork]) -> list[MapsWork]:
    """The same work in the smallest units, a network on a tomogram: they spread best over many workers."""
    return [MapsWork(one.source, (network,)) for one in work for network in one.networks]


def _alone(checkpoint: Path) -> Ensemble:
    return Ensemble((checkpoint,), mean_of_maps)
