"""The map of one network on one tomogram: from the store, else made now; no tomogram is read in vain, or twice."""

import json
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import torch

from data.content_hash import content_hash, hash_of
from data.files import atomic_path
from errors import InputError
from inference.checkpoints import load_checkpoint, read_description
from inference.ensembles import Ensemble
from inference.maps.map_store import MapStore
from inference.maps.timings import Timings
from inference.predictor import Prediction, Predictor
from inference.settings import InferenceSettings
from inference.tomograms import SourceTomogram
from particle_config import Particle
from tta.views import MERGES

# Part of every key: count up when the same ingredients would give another map, or another kind of file.
FORMAT = 3
# Settings that a map does not depend on; of the window the one that is used counts, not what was asked for.
WITHOUT_EFFECT = ("batch_size", "compile", "max_memory_gb", "window", "trained_window_zyx")
# Below the store's folder: the windows that were used for tomograms of a shape.
WINDOWS = "windows"
# Networks that stay ready, in bytes of their weights: those of several folds, unless they are huge.
RESIDENT_BYTES = 4e9

Progress = Callable[[float], None]
Sides = tuple[int, int, int]


class NetworkMaps:
    """Probability maps of single networks.

    Parameters
    ----------
    store : where maps are kept
    device : where networks run and maps come to
    particles : the particle table
    remake : make every map anew, once

    Attributes
    ----------
    timings : how long each map took when it was made, perhaps by another command
    """

    def __init__(
        self, store: MapStore, device: torch.device, *, particles: Sequence[Particle], remake: bool = False
    ) -> None:
        self.device = device
        self._store = store
        self._particles = particles
        self.timings = Timings(store.folder / "timings.jsonl")
        self._remake = remake
        self._made: set[str] = set()
        self._keys: dict[tuple, str] = {}
        self._architectures: dict[Path, dict] = {}
        self._windows: dict[Path, Sides] = {}
        self._ready: OrderedDict[tuple[Path, InferenceSettings, Sides], tuple[Predictor, int]] = OrderedDict()

    def key(self, checkpoint: Path, source: SourceTomogram, inference: InferenceSettings) -> str:
        """32 hex digits of all that the map depends on: contents of the files, settings, and the window in use.

        Looked up once: what files hold is taken to stay the same while this object lives.
        """
        inference = _of_one_network(inference)
        known = checkpoint, source.tomogram.path, source.settings.norm_percentiles, inference
        if known not in self._keys:
            settings = {name: value for name, value in asdict(inference).items() if name not in WITHOUT_EFFECT}
            ingredients = {
                **settings,
                "format": FORMAT,
                "checkpoint": content_hash(checkpoint),
                "tomogram": content_hash(source.tomogram.path),
                "norm_percentiles": source.settings.norm_percentiles,
                "window": self.window(checkpoint, inference, source.tomogram.shape_zyx),
                "device": self.device.type,
            }
            self._keys[known] = hash_of(ingredients)
        return self._keys[known]

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
        one = _of_one_network(inference)
        maps = [partial(self._map, member, source, one, progress) for member in ensemble.members]
        return ensemble.combine(maps, inference.tta_merge)

    def window(self, checkpoint: Path, inference: InferenceSettings, shape_zyx: Sides) -> Sides:
        """The window in which the network takes tomograms of that shape.

        Chosen once by the memory that is free then and written down, so that a command that goes on later, and other
        networks of the same architecture, use the same.
        """
        record = self._window_record(checkpoint, inference, shape_zyx)
        if record not in self._windows:
            try:
                depth, height, width = map(int, json.loads(record.read_text(encoding="utf-8")))
                self._windows[record] = depth, height, width
            except (FileNotFoundError, TypeError, ValueError):  # none, or damaged
                predictor = self._predictor(checkpoint, inference, shape_zyx)
                self._write_window(record, predictor.window_for(shape_zyx))
        return self._windows[record]

    def _window_record(self, checkpoint: Path, inference: InferenceSettings, shape_zyx: Sides) -> Path:
        if checkpoint not in self._architectures:
            self._architectures[checkpoint] = dict(read_description(checkpoint).architecture)
        ingredients = [asdict(inference), self.device.type, self._architectures[checkpoint], tuple(shape_zyx)]
        return self._store.folder / WINDOWS / f"{hash_of(ingredients)}.json"

    def _write_window(self, record: Path, window_zyx: Sides) -> None:
        with atomic_path(record) as temporary:
            temporary.write_text(json.dumps(window_zyx), encoding="utf-8")
        self._windows[record] = tuple(window_zyx)
        self._keys.clear()  # they hold the window

    def _map(
        self, checkpoint: Path, source: SourceTomogram, inference: InferenceSettings, progress: Progress
    ) -> Prediction:
        """Of one network, rounded as the store rounds it."""
        key = self.key(checkpoint, source, inference)

        def make() -> tuple[str, Prediction]:
            return self._make(checkpoint, source, inference, progress)

        key, prediction = self._store.load_or_make(
            source.name, key, make, device=self.device, remake=self._must_make(key)
        )
        self._made.add(key)
        return prediction

    def _make(
        self, checkpoint: Path, source: SourceTomogram, inference: InferenceSettings, progress: Progress
    ) -> tuple[str, Prediction]:
        """The map and its key: where memory ran out, it is that of a smaller window."""
        _, volume = source.voxels()
        window = self.window(checkpoint, inference, volume.shape)
        predictor = self._predictor(checkpoint, replace(inference, window=window), volume.shape)
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
        used = predictor.window_for(volume.shape)
        if used != window:
            self._write_window(self._window_record(checkpoint, inference, volume.shape), used)
        key = self.key(checkpoint, source, inference)
        self.timings.write(work="network", key=key, seconds=seconds)
        return key, prediction

    def _must_make(self, key: str) -> bool:
        return self._remake and key not in self._made

    def _predictor(self, checkpoint: Path, inference: InferenceSettings, shape_zyx: Sides) -> Predictor:
        """Those used last stay ready."""
        known = checkpoint, inference, tuple(shape_zyx)
        ready = self._ready.pop(known, None)
        if ready is None:
            network, _ = load_checkpoint(checkpoint, self._particles)
            weight_bytes = sum(weight.nbytes for weight in network.parameters())
            ready = Predictor([network], inference, self.device), weight_bytes
        self._ready[known] = ready
        while len(self._ready) > 1 and sum(bytes_ for _, bytes_ in self._ready.values()) > RESIDENT_BYTES:
            self._ready.popitem(last=False)
        return ready[0]


def _of_one_network(inference: InferenceSettings) -> InferenceSettings:
    """What its map depends on: one view is not merged with anything."""
    return inference if inference.num_views > 1 else replace(inference, tta_merge=MERGES[0])
