"""Tomograms through networks and detection: read, predict, pick."""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pandas as pd
from torch import Tensor

from data.czi import Run
from data.normalization import clip_to_percentiles
from data.picks import picks_table
from data.tomogram import Tomogram, open_tomogram
from errors import InputError
from evaluation.evidence import ranking_scores
from inference.predictor import Prediction, Predictor
from metrics.calibration import confidence
from particle_config import Particle
from postprocessing import detect, radii_voxels
from postprocessing.detections import Detections

# Voxels that differ more from those trained on show particles at another size.
SPACING_TOLERANCE = 0.05


@dataclass(frozen=True)
class TomogramSettings:
    """What is needed to read a tomogram as the network wants it.

    Attributes
    ----------
    tomo_type : the type read of every run
    norm_percentiles : (lower, upper) in percent; None: the grey values stay as they are
    trained_spacing_angstrom : of the network's training
    voxel_spacing_angstrom : overrides the files'
    """

    tomo_type: str
    norm_percentiles: tuple[float, float] | None
    trained_spacing_angstrom: float
    voxel_spacing_angstrom: float | None = None


@dataclass(frozen=True)
class DetectionSettings:
    """What is needed to find the particles on a probability map.

    Attributes
    ----------
    trained_radius_fraction : of the network's training
    method : post-processing method
    hyperparameters : particle name -> keyword -> value; the calibration of the scores too, where there is one
    internal_downsample : voxels of the map in a cell of the one that is searched
    """

    trained_radius_fraction: float
    method: str
    hyperparameters: Mapping[str, Mapping[str, float]]
    internal_downsample: int = 1


@dataclass(frozen=True)
class PredictedTomogram:
    """A run's tomogram, its grey values as they are in the file, and what the networks say about it.

    ``volume`` is None where the networks' answer was known before, so that nobody read the tomogram.
    """

    run: Run
    voxel_spacing_angstrom: float
    volume: np.ndarray | None
    prediction: Prediction


@dataclass(frozen=True)
class Found:
    """Particles of one class in voxels of the tomogram.

    Attributes
    ----------
    confidences : (N,) chance to be a hit; NaN without a calibration
    uncertainties : (N,) standard deviation of the probability over views and networks; NaN where there is only one
    """

    detections: Detections
    confidences: np.ndarray
    uncertainties: np.ndarray


def open_tomograms(runs: Sequence[Run], settings: TomogramSettings) -> list[Tomogram]:
    """Look at every run's tomogram; InputError for one that cannot be read or has another voxel size."""
    return [_open(run, settings) for run in runs]


def predict_runs(
    runs: Sequence[Run],
    predictor: Predictor,
    settings: TomogramSettings,
    *,
    progress: Callable[[float], None] = lambda voxels: None,
) -> Iterator[PredictedTomogram]:
    """The runs one by one, in their order; the next is read and normalised while this one computes.

    All of them are looked at before the first is predicted, so that a mistake in the last run does not cost the time
    of all others. Maps are large: forget the last one before you ask for the next.
    """
    return _predict(list(zip(runs, open_tomograms(runs, settings), strict=True)), predictor, settings, progress)


def _predict(tomograms, predictor, settings, progress) -> Iterator[PredictedTomogram]:
    read = _one_ahead(lambda tomogram: read_tomogram(tomogram, settings), [tomogram for _, tomogram in tomograms])
    for (run, tomogram), (volume, normalised) in zip(tomograms, read, strict=True):
        yield PredictedTomogram(run, tomogram.voxel_spacing_angstrom, volume, predictor(normalised, progress))


def _one_ahead(work: Callable, items: Sequence) -> Iterator:
    """``work(item)`` of every item in turn; a thread is at work on the next while the caller has this one."""
    with ThreadPoolExecutor(1, thread_name_prefix="reader") as thread:
        begun = deque()
        for item in items:
            begun.append(thread.submit(work, item))
            if len(begun) > 1:
                yield begun.popleft().result()
        while begun:
            yield begun.popleft().result()


def read_tomogram(tomogram: Tomogram, settings: TomogramSettings) -> tuple[np.ndarray, np.ndarray]:
    """Grey values as they are, and normalised."""
    volume = tomogram.read()
    limits = settings.norm_percentiles
    return volume, volume if limits is None else clip_to_percentiles(volume, *limits)


def _open(run: Run, settings: TomogramSettings) -> Tomogram:
    path = run.tomogram_path(settings.tomo_type)
    tomogram = open_tomogram(path, voxel_spacing_angstrom=settings.voxel_spacing_angstrom)
    here, trained = tomogram.voxel_spacing_angstrom, settings.trained_spacing_angstrom
    if abs(here / trained - 1) > SPACING_TOLERANCE:
        raise InputError(
            f"{path} has {here:g} A per voxel, the network was trained at {trained:g}; "
            "bin the tomogram to that size (or give --voxel_spacing if the file is wrong)"
        )
    return tomogram


def picks_of(tomogram: PredictedTomogram, settings: DetectionSettings, particles: Sequence[Particle]) -> pd.DataFrame:
    """Picks in angstrom, best first within each particle, with what is known of each."""
    prediction = tomogram.prediction
    found = detect(
        prediction.probability,
        method=settings.method,
        particles=particles,
        voxel_spacing_angstrom=tomogram.voxel_spacing_angstrom,
        trained_radius_fraction=settings.trained_radius_fraction,
        hyperparameters=settings.hyperparameters,
        map_stride=prediction.stride,
        internal_downsample=settings.internal_downsample,
    )
    spacing, cell_voxels = tomogram.voxel_spacing_angstrom, prediction.stride * settings.internal_downsample
    known = {}
    for particle in particles:
        one = found[particle.name]
        _, trained_radius_voxels = radii_voxels(
            particle, spacing, settings.trained_radius_fraction, cell_voxels=cell_voxels
        )
        ranking = ranking_scores(one, settings.method, trained_radius_voxels)
        known[particle.name] = Found(
            one,
            confidence(ranking, settings.hyperparameters[particle.name]),
            uncertainty_at(one.coordinates_zyx, prediction, particle.label),
        )
    return table_of_detections(tomogram.run.name, known, spacing)


def table_of_detections(run_name: str, found: Mapping[str, Found], voxel_spacing_angstrom: float) -> pd.DataFrame:
    """Picks table in angstrom from particle name -> what was found, in voxels."""
    tables = [
        picks_table(
            run_name,
            name,
            one.detections.coordinates_zyx * voxel_spacing_angstrom,
            one.detections.scores,
            one.uncertainties,
            one.detections.sizes,
            one.confidences,
        )
        for name, one in found.items()
    ]
    return pd.concat(tables, ignore_index=True)


def uncertainty_at(coordinates_zyx: np.ndarray, prediction: Prediction, label: int) -> np.ndarray:
    """Standard deviation of a class's probability over views and networks, at the cell that a place lies in.

    Parameters
    ----------
    coordinates_zyx : (N, 3) voxels of the tomogram; places outside count as the nearest cell
    prediction : with C classes
    label : of the class

    Returns
    -------
    (N,) float64 in 0..0.5; NaN where there is one view of one network.
    """
    if prediction.variance is None:
        return np.full(len(coordinates_zyx), np.nan)
    variance: Tensor = prediction.variance[label]
    cells = np.rint((coordinates_zyx + 0.5) / prediction.stride - 0.5).astype(np.int64)
    z, y, x = np.clip(cells, 0, np.array(variance.shape) - 1).T
    return variance[z, y, x].double().sqrt().cpu().numpy()
