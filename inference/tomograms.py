"""The tomogram of a run as the networks take it: opened and checked first, read and normalised when it is needed."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import zip_longest

import numpy as np

from data.czi import Run
from data.normalization import clip_to_percentiles, in_float32_range
from data.spectrum import amplitude_spectrum, filtered, largest_difference, matching_gain, particle_skewness
from data.tomogram import Tomogram, open_tomogram
from errors import InputError

# Voxels that differ more from those trained on show particles at another size.
SPACING_TOLERANCE = 0.05
# When tomograms are filtered to the spectrum of those trained on: auto: where theirs is another.
MATCHING = ("auto", "on", "off")
# Spectra that differ so much, in factors of ten of amplitude, are of another filter or program.
FAR = 0.3
# Voxels of a side of tomograms that are large enough to be judged.
LEAST_SIDE = 48
# Skewness by which dark particles can be told from bright ones.
CLEAR_SKEWNESS = 0.3
# Bounds of what matching does to a frequency. What a filter has removed cannot be had back.
LARGEST_GAIN, SMALLEST_GAIN = 3.0, 0.01


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
    spectrum, skewness : of the training tomograms, see data.spectrum; None: not known
    spectrum_range : least and greatest amplitudes of them; None: not known, as if all had the same spectrum
    match_spectrum : filter tomograms to that spectrum: one of MATCHING
    """

    tomo_type: str
    norm_percentiles: tuple[float, float] | None
    trained_spacing_angstrom: float
    voxel_spacing_angstrom: float | None = None
    rescale: bool = False
    spectrum: tuple[float, ...] | None = None
    skewness: float | None = None
    spectrum_range: tuple[tuple[float, ...], tuple[float, ...]] | None = None
    match_spectrum: str = "off"

    @property
    def matches(self) -> str:
        """One of MATCHING; off as well where the spectrum of the training is not known."""
        return "off" if self.spectrum is None else self.match_spectrum

    @property
    def matching(self) -> tuple | None:
        """When tomograms are filtered, those of which spectra are not, and to which spectrum; None: never."""
        if self.matches == "off":
            return None
        ranged = self.matches == "auto" and self.spectrum_range is not None
        return (self.matches, self.spectrum, *([self.spectrum_range] if ranged else []))


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
        volume, limits = self._grey_values(), self.settings.norm_percentiles
        normalised = in_float32_range(volume) if limits is None else clip_to_percentiles(volume, *limits)
        return volume, self._matched(normalised, in_place=normalised is not volume)

    def _grey_values(self) -> np.ndarray:
        return self.tomogram.read()

    def _matched(self, volume: np.ndarray, *, in_place: bool) -> np.ndarray:
        """A normalised tomogram, filtered to the spectrum of the training where that is asked for.

        One that does not look like those of the training is named in a warning.
        """
        wanted, match = self.settings.spectrum, self.settings.match_spectrum
        if looks_inverted(self.settings.skewness, volume):
            warnings.warn(
                f"{self.name}: its contrast looks inverted: what was dark in the training is bright here; multiply the "
                "tomogram by -1",
                stacklevel=1,
            )
        if wanted is None:
            return volume
        own = amplitude_spectrum(volume)
        known = self.settings.spectrum_range
        distance, frequency = largest_difference(own, wanted if known is None else np.clip(own, *known))
        is_far = distance > FAR and min(volume.shape) >= LEAST_SIDE
        matches = match == "on" or (match == "auto" and is_far)
        if is_far:
            advice = "filtered to match it" if matches else "filter it as those, or try --match_spectrum auto"
            warnings.warn(
                f"{self.name}: its amplitude at {frequency:.2f} cycles per voxel differs from that of the training "
                f"tomograms by a factor of {10**distance:.1f}; {advice}",
                stacklevel=1,
            )
        if not matches:
            return volume
        gain = matching_gain(own, wanted, largest=LARGEST_GAIN, smallest=SMALLEST_GAIN)
        return filtered(volume, gain, in_place=in_place)


def looks_inverted(trained_skewness: float | None, volume: np.ndarray) -> bool:
    """Whether particles are bright where those of the training were dark, or dark where they were bright."""
    if trained_skewness is None or abs(trained_skewness) < CLEAR_SKEWNESS or min(volume.shape) < LEAST_SIDE:
        return False
    own = particle_skewness(volume)
    return abs(own) >= CLEAR_SKEWNESS and own * trained_skewness < 0


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
