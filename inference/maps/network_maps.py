"""The map of one network on one tomogram: from the store, else made now; no tomogram is read in vain, or twice."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import torch

from data.content_hash import ContentHashes, hash_of
from errors import InputError
from inference.checkpoints import load_checkpoint, read_description
from inference.device import choose_device
from inference.ensembles import Ensemble
from inference.maps.map_store import MapStore
from inference.maps.timings import Timings
from inference.predictor import Prediction, Predictor
from inference.settings import InferenceSettings
from inference.tomograms import SourceTomogram
from particle_config import Particle
from tta.views import MERGES

# Part of every key: count up when the same ingredients would give another map, or another kind of file.
FORMAT = 4
# Settings that a map does not depend on; of the window the one that is used counts, not what was asked for.
WITHOUT_EFFECT = (
    *("batch_size", "compile", "max_memory_gb", "cpu_memory_gb", "gpu_memory_gb"),
    *("window", "trained_window_zyx"),
)
# Networks that stay ready, in bytes of their weights: those of several folds, unless they are huge.
RESIDENT_BYTES = 4e9

Progress = Callable[[float], None]
Sides = tuple[int, int, int]


@dataclass(frozen=True)
class MapSettings:
    """Where maps are kept and networks run; small to send to the machines that do.

    Attributes
    ----------
    folder, limit_gb : of the MapStore
    device, precision : as given, see inference.device.choose_device
    particles, remake : as of NetworkMaps
    """

    folder: Path
    limit_gb: float
    device: str
    precision: str
    particles: tuple[Particle, ...]
    remake: bool = False

    def open(self) -> "NetworkMaps":
        """On this machine; InputError where it lacks the device."""
        device = choose_device(self.device, self.precision)
        return NetworkMaps(MapStore(self.folder, self.limit_gb), device, particles=self.particles, remake=self.remake)

    @property
    def hashes(self) -> ContentHashes:
        """Of the files that maps are made from, kept beside the maps."""
        return ContentHashes(self.folder / "hashes")


class NetworkMaps:
    """Probability maps of single networks.

    One thread makes maps; others may ask meanwhile which are missing.

    Parameters
    ----------
    store : where maps are kept
    device : where networks run and maps come to
    particles : the particle table
    remake : make every map anew, once

    Attributes
    ----------
    timings : how long each map took when it was made, perhaps by another command
    hashes : of the files that maps are made from, kept beside the maps
    """

    def __init__(
        self, store: MapStore, device: torch.device, *, particles: Sequence[Particle], remake: bool = False
    ) -> None:
        self.device = device
        self.hashes = ContentHashes(store.folder / "hashes")
        self._store = store
        self._particles = particles
        self.timings = Timings(store.folder / "timings.jsonl")
        self._remake = remake
        self._made: set[str] = set()
        self._given_up: dict[tuple[Path, Path, InferenceSettings], Exception] = {}
        self._used: dict[InferenceSettings, InferenceSettings] = {}
        self._keys: dict[tuple, str] = {}
        self._architectures: dict[Path, dict] = {}
        self._windows: dict[tuple, Sides] = {}
        self._ready: OrderedDict[tuple[Path, InferenceSettings], tuple[Predictor, int]] = OrderedDict()
        self._loading = threading.RLock()

    def key(self, checkpoint: Path, source: SourceTomogram, inference: InferenceSettings) -> str:
        """32 hex digits of all that the map depends on: contents of the files, settings, and the window in use.

        Looked up once: what files hold is taken to stay the same while this object lives.
        """
        inference = self._of_one_network(inference)
        resampled, matching = _resampling(source), source.settings.matching
        known = checkpoint, source.tomogram.path, source.settings.norm_percentiles, matching, inference, resampled
        key = self._keys.get(known)
        if key is None:
            settings = {name: value for name, value in asdict(inference).items() if name not in WITHOUT_EFFECT}
            ingredients = {
                **settings,
                "format": FORMAT,
                "checkpoint": self.hashes.of(checkpoint),
                "tomogram": self.hashes.of(source.tomogram.path),
                "norm_percentiles": source.settings.norm_percentiles,
                "window": self.window(checkpoint, inference, source.tomogram.shape_zyx),
                "device": self.device.type,
                **({} if resampled is None else {"resampled": resampled}),
                **({} if matching is None else {"matching": matching}),
            }
            self._keys[known] = key = hash_of(ingredients)
        return key

    def keys(self, ensemble: Ensemble, source: SourceTomogram, inference: InferenceSettings) -> list[str]:
        """Those of all members, in their order."""
        return [self.key(member, source, inference) for member in ensemble.members]

    def missing(self, ensemble: Ensemble, source: SourceTomogram, inference: InferenceSettings) -> set[str]:
        """Keys of the maps that must be made."""
        keys = self.keys(ensemble, source, inference)
        return {key for key in keys if self._must_make(key) or not self._store.holds(source.name, key)}

    def combined(
        self, ensemble: Ensemble, source: SourceTomogram, inference: InferenceSettings, progress: Progress
    ) -> Prediction:
        """The map of all members together; ``progress`` is told of voxels that go through a network."""
        one = self._of_one_network(inference)
        maps = [partial(self._map, member, source, one, progress) for member in ensemble.members]
        while True:
            keys = self.keys(ensemble, source, inference)
            prediction = ensemble.combine(maps, inference.tta_merge)
            if self.keys(ensemble, source, inference) == keys:
                return prediction
            del prediction  # on the way memory ran out: all members once more, in the same window

    def give_up(self, network: tuple[Path, InferenceSettings], source: SourceTomogram, error: Exception) -> None:
        """A map that could not be made elsewhere is not tried here: the error is raised in its place."""
        checkpoint, inference = network
        self._given_up[checkpoint, source.tomogram.path, self._of_one_network(inference)] = error

    def window(self, checkpoint: Path, inference: InferenceSettings, shape_zyx: Sides) -> Sides:
        """The window in which the network takes tomograms of that shape, the same for all of its architecture.

        It does not depend on the memory that is free, unless a map was made where less was free than the window needs.
        """
        inference = self._of_one_network(inference)
        used_by = self._used_by(checkpoint, inference, shape_zyx)
        with self._loading:
            if used_by not in self._windows:
                self._windows[used_by] = self._predictor(checkpoint, inference).window_for(shape_zyx)
            return self._windows[used_by]

    def windows(self, ensemble: Ensemble, source: SourceTomogram, inference: InferenceSettings) -> tuple[Sides, ...]:
        """Those of all members, each size once."""
        shape = source.tomogram.shape_zyx
        return tuple(dict.fromkeys(self.window(member, inference, shape) for member in ensemble.members))

    def _used_by(self, checkpoint: Path, inference: InferenceSettings, shape_zyx: Sides) -> tuple:
        if checkpoint not in self._architectures:
            self._architectures[checkpoint] = hash_of(read_description(checkpoint).architecture)
        return self._architectures[checkpoint], inference, tuple(shape_zyx)

    def _map(
        self, checkpoint: Path, source: SourceTomogram, inference: InferenceSettings, progress: Progress
    ) -> Prediction:
        """Of one network, rounded as the store rounds it."""
        key = self.key(checkpoint, source, inference)
        if self._must_make(key) or not self._store.holds(source.name, key):
            if error := self._given_up.get((checkpoint, source.tomogram.path, inference)):
                raise error
            self._fitting(checkpoint, source, inference)
            key = self.key(checkpoint, source, inference)

        def make() -> tuple[str, Prediction]:
            return self._make(checkpoint, source, inference, progress)

        key, prediction = self._store.load_or_make(
            *(source.name, key, make),
            device=self.device,
            remake=self._must_make(key),
            shape=(len(self._particles), *source.tomogram.shape_zyx),
        )
        self._made.add(key)
        return prediction

    def _fitting(self, checkpoint: Path, source: SourceTomogram, inference: InferenceSettings) -> Predictor:
        """The network, in windows that fit into the memory that is left beside the tomogram."""
        shape = source.voxels()[1].shape
        predictor = self._predictor(checkpoint, inference)
        predictor.use_window(shape, self.window(checkpoint, inference, shape))
        predictor.fit(shape)
        self._note_window(predictor, checkpoint, inference, shape)
        return predictor

    def _note_window(
        self, predictor: Predictor, checkpoint: Path, inference: InferenceSettings, shape_zyx: Sides
    ) -> None:
        used_by, window = self._used_by(checkpoint, inference, shape_zyx), predictor.window_for(shape_zyx)
        if self._windows[used_by] != window:
            self._windows[used_by] = window
            self._keys.clear()  # they hold the window

    def _make(
        self, checkpoint: Path, source: SourceTomogram, inference: InferenceSettings, progress: Progress
    ) -> tuple[str, Prediction]:
        """The map and its key: where memory ran out, it is that of a smaller window."""
        predictor = self._fitting(checkpoint, source, inference)
        _, volume = source.voxels()
        begin = time.perf_counter()
        prediction = predictor(volume, progress)
        if self.device.type == "cuda":
            torch.cuda.synchronize()  # a GPU is still at work when it has been told what to do
        seconds = time.perf_counter() - begin
        if not prediction.probability.sum().isfinite():
            raise InputError(
                f"{checkpoint}: its probabilities on {source.name} are not numbers; the training diverged (use another "
                "checkpoint), or the grey values are too large for --precision"
            )
        self._note_window(predictor, checkpoint, inference, volume.shape)
        key = self.key(checkpoint, source, inference)
        self.timings.write(work="network", key=key, seconds=seconds)
        return key, prediction

    def _of_one_network(self, inference: InferenceSettings) -> InferenceSettings:
        """What its map depends on: one view is not merged with anything, and not every device has every precision."""
        if inference not in self._used:
            merge = inference.tta_merge if inference.num_views > 1 else MERGES[0]
            self._used[inference] = replace(inference, tta_merge=merge).on(self.device)
        return self._used[inference]

    def _must_make(self, key: str) -> bool:
        return self._remake and key not in self._made

    def _predictor(self, checkpoint: Path, inference: InferenceSettings) -> Predictor:
        """Those used last stay ready."""
        known = checkpoint, inference
        with self._loading:
            ready = self._ready.pop(known, None)
            if ready is None:
                network, _ = load_checkpoint(checkpoint, self._particles)
                weight_bytes = sum(weight.nbytes for weight in network.parameters())
                ready = Predictor([network], inference, self.device), weight_bytes
            self._ready[known] = ready
            while len(self._ready) > 1 and sum(bytes_ for _, bytes_ in self._ready.values()) > RESIDENT_BYTES:
                self._ready.popitem(last=False)
        return ready[0]


def _resampling(source: SourceTomogram) -> tuple | None:
    """From which voxel size (z, y, x) to which; None for a tomogram that is taken as it is."""
    before = source.tomogram.rescaled_from_zyx_angstrom
    return None if before is None else (before, source.voxel_spacing_angstrom)
