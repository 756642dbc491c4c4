"""The map of one network on one tomogram: from the store, else made now; no tomogram is read in vain, or twice."""

import json
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from data.content_hash import hash_of
from data.czi import Run
from data.files import atomic_path
from data.tomogram import Tomogram
from evaluation.experiments import Detector
from evaluation.map_store import MapStore, map_key
from evaluation.timings import Timings
from evaluation.tomograms import PredictedTomogram, TomogramSettings, open_tomograms, read_tomogram
from inference.checkpoints import load_checkpoint
from inference.predictor import Prediction, Predictor
from inference.settings import InferenceSettings
from particle_config import Particle

# Settings that a map does not depend on.
WITHOUT_EFFECT = ("batch_size", "compile", "max_memory_gb")
# Below the store's folder: the windows that were chosen for tomograms of a shape.
WINDOWS = "windows"
# Networks that stay ready, in bytes of their weights: those of several folds, unless they are huge.
RESIDENT_BYTES = 4e9


class SourceTomogram:
    """A run's tomogram, read and normalised when its voxels are first asked for, or a while before."""

    def __init__(self, run: Run, tomogram: Tomogram, settings: TomogramSettings) -> None:
        self.run = run
        self.tomogram = tomogram
        self.settings = settings
        self._reading: Future[np.ndarray] | None = None

    def begin_reading(self, thread: ThreadPoolExecutor) -> None:
        if self._reading is None:
            self._reading = thread.submit(self._read)

    def normalised(self) -> np.ndarray:
        """(Z, Y, X) float32, as the networks want it; kept until :meth:`forget`."""
        if self._reading is None:
            self._reading = Future()
            self._reading.set_result(self._read())
        return self._reading.result()

    def forget(self) -> None:
        self._reading = None

    def _read(self) -> np.ndarray:
        return read_tomogram(self.tomogram, self.settings)[1]


def open_sources(runs: Sequence[Run], settings: TomogramSettings) -> list[SourceTomogram]:
    """Look at every run's tomogram; InputError for one that cannot be read or has another voxel size."""
    return [
        SourceTomogram(run, tomogram, settings)
        for run, tomogram in zip(runs, open_tomograms(runs, settings), strict=True)
    ]


def one_ahead(
    sources: Sequence[SourceTomogram], is_needed: Callable[[SourceTomogram], bool]
) -> Iterator[SourceTomogram]:
    """The tomograms in turn; a thread reads the next, where its voxels are needed, while the caller has this one."""
    with ThreadPoolExecutor(1, thread_name_prefix="reader") as thread:
        for source, following in zip(sources, [*sources[1:], None], strict=True):
            if following is not None and is_needed(following):
                following.begin_reading(thread)
            yield source
            source.forget()


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
    timings : how long each map took when it was made, perhaps by another campaign
    """

    def __init__(
        self,
        store: MapStore,
        device: torch.device,
        *,
        particles: Sequence[Particle],
        remake: bool = False,
    ) -> None:
        self.device = device
        self._store = store
        self._particles = particles
        self.timings = Timings(store.folder / "timings.jsonl")
        self._remake = remake
        self._made: set[str] = set()
        self._ready: OrderedDict[tuple[Path, InferenceSettings, tuple[int, ...]], tuple[Predictor, int]] = OrderedDict()

    def key(self, checkpoint: Path, source: SourceTomogram, inference: InferenceSettings) -> str:
        """What the map depends on."""
        settings = {
            **{name: value for name, value in asdict(inference).items() if name not in WITHOUT_EFFECT},
            "norm_percentiles": source.settings.norm_percentiles,
            "device": self.device.type,
        }
        return map_key(checkpoints=[checkpoint], tomogram=source.tomogram.path, settings=settings)

    def is_stored(self, source: SourceTomogram, key: str) -> bool:
        return not self._must_make(key) and self._store.holds(source.run.name, key)

    def combined(
        self,
        detector: Detector,
        members: Sequence[Path],
        source: SourceTomogram,
        inference: InferenceSettings,
        progress: Callable[[float], None],
    ) -> PredictedTomogram:
        """What these members of a detector see together; ``progress`` hears of voxels that go through a network."""
        maps = [partial(self._map, member, source, inference, progress) for member in members]
        prediction = detector.combine(maps, inference.tta_merge)
        return PredictedTomogram(source.run, source.tomogram.voxel_spacing_angstrom, None, prediction)

    def _map(
        self,
        checkpoint: Path,
        source: SourceTomogram,
        inference: InferenceSettings,
        progress: Callable[[float], None],
    ) -> Prediction:
        """Of one network, rounded as the store rounds it."""
        key = self.key(checkpoint, source, inference)
        prediction = self._store.load_or_make(
            source.run.name,
            key,
            partial(self._make, checkpoint, source, inference, progress, key),
            device=self.device,
            remake=self._must_make(key),
        )
        self._made.add(key)
        return prediction

    def _make(
        self,
        checkpoint: Path,
        source: SourceTomogram,
        inference: InferenceSettings,
        progress: Callable[[float], None],
        key: str,
    ) -> Prediction:
        volume = source.normalised()
        predictor = self._predictor(checkpoint, inference, volume.shape)
        with self.timings.measured(work="network", key=key):
            prediction = predictor(volume, progress)
            if self.device.type == "cuda":
                torch.cuda.synchronize()  # a GPU is still at work when it has been told what to do
        return prediction

    def _must_make(self, key: str) -> bool:
        return self._remake and key not in self._made

    def _predictor(self, checkpoint: Path, inference: InferenceSettings, shape_zyx: Sequence[int]) -> Predictor:
        """Those used last stay ready."""
        known = checkpoint, inference, tuple(shape_zyx)
        ready = self._ready.pop(known, None) or self._make_ready(*known)
        self._ready[known] = ready
        while len(self._ready) > 1 and sum(bytes_ for _, bytes_ in self._ready.values()) > RESIDENT_BYTES:
            self._ready.popitem(last=False)
        return ready[0]

    def _make_ready(
        self, checkpoint: Path, inference: InferenceSettings, shape_zyx: tuple[int, ...]
    ) -> tuple[Predictor, int]:
        network, description = load_checkpoint(checkpoint, self._particles)
        weight_bytes = sum(weight.nbytes for weight in network.parameters())
        # Windows chosen by the memory that there is at the time would be others when the campaign goes on.
        ingredients = [asdict(inference), self.device.type, dict(description.architecture), shape_zyx]
        record = self._store.folder / WINDOWS / f"{hash_of(ingredients)}.json"
        if record.is_file():
            inference = replace(inference, window=tuple(json.loads(record.read_text(encoding="utf-8"))))
            return Predictor([network], inference, self.device), weight_bytes
        predictor = Predictor([network], inference, self.device)
        with atomic_path(record) as temporary:
            temporary.write_text(json.dumps(predictor.window_for(shape_zyx)), encoding="utf-8")
        return predictor, weight_bytes
