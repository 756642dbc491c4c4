"""Where in Fourier space a tilt series measures nothing; see tta.orientations for beam and tilt axis."""

import math
from collections.abc import Sequence

import numpy as np

from tta.orientations import FRAMES

# The border of the wedge is measured: at 45 degrees |k beam| = |k across| must not be missing by rounding.
BORDER = 1e-9


def missing_wedge(shape_zyx: Sequence[int], tilt_range_degrees: float, tilt_axis: str = "y") -> np.ndarray:
    """Where in Fourier space a tilt series measured nothing: |k beam| > tan(range) |k across|.

    Parameters
    ----------
    shape_zyx : voxels of the volume; sides may differ, be odd or even
    tilt_range_degrees : largest tilt to either side, above 0 and below 90
    tilt_axis : y, x or z; the beam follows from it (see above)

    Returns
    -------
    (Z, Y, X) bool in the order of numpy.fft.fftn, zero frequency first; True is missing. Zero frequency and the
    border of the wedge are measured. The volume is taken as cubic voxels.

    Raises
    ------
    ValueError
        Where the tilt range is out of bounds.
    """
    if not 0 < tilt_range_degrees < 90:
        raise ValueError(f"tilt range must be above 0 and below 90 degrees, got {tilt_range_degrees}")
    frequencies = np.meshgrid(*map(np.fft.fftfreq, shape_zyx), indexing="ij", sparse=True)
    beam, _, across = (np.abs(frequencies[axis]) for axis in FRAMES[tilt_axis].order)
    missing = beam > (1 + BORDER) * math.tan(math.radians(tilt_range_degrees)) * across
    return np.broadcast_to(missing, tuple(shape_zyx)).copy()
