"""Where a tilt series measures nothing, and the groups turned to data that lie otherwise in their array.

A tilt series is turned about one axis while the beam stays; the missing wedge lies in the plane across the tilt
axis, around the beam. Beam and tilt axis are two facts of the data, and the name of the tilt axis stands for both:

y : beam along z, the usual layout
x : beam along z, the volume turned by 90 degrees in the plane
z : beam along y, as tilt-series programs write their sections before the volume is turned upright; the file's
    first axis is then the tilt axis
"""

import math
from collections.abc import Iterable, Sequence

import numpy as np

from tta.orientations import IDENTITY, Orientation, X, Y, Z, compose, inverse

# Shows data with that tilt axis in the layout with the beam first, then the tilt axis, then the axis across both.
# Exchanges of two axes change the hand of the volume, which no group of orientations depends on.
FRAMES = {
    "y": IDENTITY,
    "x": Orientation((Z, X, Y), (False, False, False)),
    "z": Orientation((Y, Z, X), (False, False, False)),
}
TILT_AXES = tuple(FRAMES)

# The border of the wedge is measured: at 45 degrees |k beam| = |k across| must not be missing by rounding.
BORDER = 1e-9


def turned(orientations: Iterable[Orientation], tilt_axis: str) -> tuple[Orientation, ...]:
    """The orientations written for tilt axis y and beam z, as data with another tilt axis need them; sorted.

    Of the groups only those that single out the beam and turn about it change (d4h, etfinder7), and only where the
    beam is not along z (tilt axis z): d2, d2h and oh treat the three axes alike, and turns about the beam do not
    depend on the direction of the tilt axis.
    """
    frame = FRAMES[tilt_axis]
    return tuple(sorted(compose(compose(frame, one), inverse(frame)) for one in orientations))


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
