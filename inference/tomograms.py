"""The tomogram of a run as the networks take it: opened and checked first, read and normalised when it is needed."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import zip_longest

import numpy as np

from data.czi import Run
from data.normalization import clip_to_percentiles, in_float32_range
from data.tomogram import Tomogram, open_tomogram
from errors import InputError

# Voxels that differ more from those trained on show particles at another size.
SPACING_TOLERANCE = 0.05


@dataclass(frozen=True)
class TomogramSettings:
    """How the tomogram of a run is read.

    Attributes
    ----------
    tomo_type : the type read of every run
    norm_percentiles : (lower, upper) in percent; None: the grey values stay as they are
    trained_spacing_angstrom : of the network's training
    voxel_spacing_angstrom : overrides the files'
    rescale : resample tomograms of another voxel size to that of the training
    """

    tomo_type: str
    norm_percentiles: tuple[float, float] | None
    trained_spacing_angstrom: float
    voxel_spacing_angstrom: float | None = None
    rescale: bool = False


class SourceTomogram:
    """A run's tomogram, whose voxels are read when they are first asked for, or a while before by a thread.

    Attributes
    ----------
    run : where the file comes from
    tomogram : shape, voxel size and file; InputError where the voxel size is not that of the training
    settings : how it is read
    """

    def __init__(self, run: Run, settings: TomogramSettings) -> None:
        self.run = run
        self.settings = settings
        path = run.tomogram_path(settings.tomo_type)
        self.tomogram: Tomogram = open_tomogram(
            path,
            voxel_spacing_angstrom=settings.voxel_spacing_angstrom,
            rescale_to_angstrom=settings.trained_spacing_angstrom if settings.rescale else None,
        )
        here, trained = self.tomogram.voxel_spacing_angstrom, settings.trained_spacing_angstrom
        if abs(here / trained - 1) > SPACING_TOLERANCE:
            raise InputError(
                f"{path} has {here:g} A per voxel, the network was trained at {trained:g}; "
                "resample it with --rescale (or give --voxel_spacing if the file is wrong)"
            )
        self._reading: Future[tuple[np.ndarray, np.ndarray]] | None = None

    @property
    def name(self) -> str:
        return self.run.name

    @property
    def voxel_spacing_angstrom(self) -> float:
        return self.tomogram.voxel_spacing_angstrom

    def begin_reading(self, thread: ThreadPoolExecutor) -> None:
        if self._reading is None:
            self._reading = thread.submit(self._read)

    def voxels(self) -> tuple[np.ndarray, np.ndarray]:
        """(Z, Y, X) float32 grey values as in the file (or resampled), and normalised; kept until :meth:`forget`."""
        if self._reading is None:
            reading = Future()
            try:
                reading.set_result(self._read())
            except Exception as error:  # whoever asks again learns it without reading again
                reading.set_exception(error)
            self._reading = reading
        return self._reading.result()

    def forget(self) -> None:
        self._reading = None

    def _read(self) -> tuple[np.ndarray, np.ndarray]:
        volume, limits = self.tomogram.read(), self.settings.norm_percentiles
        return volume, in_float32_range(volume) if limits is None else clip_to_percentiles(volume, *limits)


def read_ahead(
    sources: Sequence[SourceTomogram], is_needed: Callable[[SourceTomogram], bool]
) -> Iterator[SourceTomogram]:
    """The tomograms in turn; a thread reads the next, where its voxels are needed, while the caller has this one."""
    with ThreadPoolExecutor(1, thread_name_prefix="reader") as thread:
        for source, following in zip_longest(sources, sources[1:]):
            if following is not None and is_needed(following):
                following.begin_reading(thread)
            try:
                yield source
            finally:
                source.forget()
