"""Whether picks can be right: they lie inside their tomogram, on voxels darker than random places."""

from collections.abc import Callable, Mapping

import numpy as np

from errors import InputError

# A pick may lie on the outer half of a border voxel.
BORDER_VOXELS = 0.5
FACTORS = (2.0, 4.0, 8.0, 0.5, 0.25, 0.125)
# Standard errors by which picks must be darker than random places, and picks below which nothing can be told.
CLEAR_DIFFERENCE, FEWEST_PICKS = 3.0, 5
# The same for the best of all mistakes: one of so many may be that much darker by chance, and picks are crowded.
CAUSE_DIFFERENCE = 5.0
# A mistake is also named if picks would be so many times darker without it: they may be a little darker by chance.
FAR_BETTER = 2.0
RANDOM_PLACES = 2000
# Half the side of the cube, by the particle's radius: hollow particles such as ferritin are dark in their shell only.
CUBE_FRACTION, WIDEST_CUBE_VOXELS = 0.6, 5


def is_inside(points_zyx_angstrom: np.ndarray, shape_zyx: tuple[int, ...], spacing_angstrom: float) -> np.ndarray:
    """(N,) bool: whether each point lies in the volume."""
    voxels = points_zyx_angstrom / spacing_angstrom
    return ((voxels >= -BORDER_VOXELS) & (voxels <= np.array(shape_zyx) - 1 + BORDER_VOXELS)).all(axis=1)


def wrong_places(shape_zyx: tuple[int, ...], spacing_angstrom: float) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """Usual mistakes, in words -> what mends zyx angstrom coordinates that were read with the mistake."""
    size = np.array(shape_zyx) * spacing_angstrom
    last_y = (shape_zyx[1] - 1) * spacing_angstrom
    mends = {
        "y is flipped": lambda p: np.stack([p[:, 0], last_y - p[:, 1], p[:, 2]], axis=1),
        "z and x are exchanged": lambda p: p[:, ::-1],
        "x and y are exchanged": lambda p: p[:, [0, 2, 1]],
        "y and z are exchanged": lambda p: p[:, [1, 0, 2]],
        "they are counted from the middle of the tomogram": lambda p: p + size / 2,
        "they are shifted by half the tomogram": lambda p: p - size / 2,
        "they are voxels, not angstrom": lambda p: p * spacing_angstrom,
        "they are angstrom, not voxels (--coords_angpix 1)": lambda p: p / spacing_angstrom,
    }
    for factor in FACTORS:
        words = f"they are {factor:g} times too small" if factor > 1 else f"they are {1 / factor:g} times too large"
        mends[f"{words} (see --binning and --coords_angpix)"] = lambda p, factor=factor: p * factor
    return mends


def check_inside(points: Mapping[str, np.ndarray], volumes: Mapping[str, tuple[tuple[int, ...], float]]) -> None:
    """InputError, with the likely cause, where most picks lie outside.

    ``points`` is run -> (N, 3) zyx angstrom, ``volumes`` run -> shape (Z, Y, X) and voxel size in angstrom.
    """
    total = sum(len(p) for p in points.values())
    inside = sum(int(is_inside(p, *volumes[run]).sum()) for run, p in points.items())
    if inside * 2 >= total:
        return
    shares = {}
    for words in wrong_places((1, 1, 1), 1.0):
        mended = {run: wrong_places(*volumes[run])[words](p) for run, p in points.items()}
        count = sum(int(is_inside(p, *volumes[run]).sum()) for run, p in mended.items())
        # Coordinates made small enough always fit: they must also fill the volume.
        wide = any(_fills(p, *volumes[run]) for run, p in mended.items())
        shares[words] = count / total if wide else 0.0
    best = max(shares, key=shares.get)
    cause = f"likely {best}" if shares[best] > 0.9 else "are --voxel_spacing, --binning and the names right?"
    run = next(run for run, p in points.items() if not is_inside(p, *volumes[run]).all())
    raise InputError(f"{total - inside} of {total} picks lie outside of their tomogram, as in run {run}: {cause}")


def _fills(points: np.ndarray, shape_zyx: tuple[int, ...], spacing: float) -> bool:
    return len(points) > 0 and bool((np.ptp(points[:, 1:], axis=0) > 0.3 * spacing * np.array(shape_zyx[1:])).any())


def darkness(
    volume: np.ndarray, places: Mapping[str, np.ndarray], spacing_angstrom: float, radius_angstrom: float
) -> dict[str, np.ndarray]:
    """Grey values at points in standard deviations of those at random places; negative is darker.

    ``volume`` is (Z, Y, X), ``places`` a name -> (N, 3) zyx angstrom; a value is the mean of a cube about as large as
    the particle. Points outside are left out, so that (M,) with M <= N comes back for each name.
    """
    half = int(np.clip(round(CUBE_FRACTION * radius_angstrom / spacing_angstrom), 0, WIDEST_CUBE_VOXELS))
    random = np.random.default_rng(0).integers(0, np.array(volume.shape), (RANDOM_PLACES, 3))
    reference = _cube_means(volume, random, half)
    middle, deviation = reference.mean(), max(float(reference.std()), 1e-30)
    values = {}
    for name, points in places.items():
        inside = points[is_inside(points, volume.shape, spacing_angstrom)]
        at_points = _cube_means(volume, np.rint(inside / spacing_angstrom).astype(int), half)
        values[name] = (at_points - middle) / deviation
    return values


def _cube_means(volume: np.ndarray, centres: np.ndarray, half: int) -> np.ndarray:
    steps = np.arange(-half, half + 1)
    z, y, x = (np.clip(centres[:, axis, None] + steps, 0, volume.shape[axis] - 1) for axis in range(3))
    return volume[z[:, :, None, None], y[:, None, :, None], x[:, None, None, :]].mean(axis=(1, 2, 3), dtype=np.float64)


def density_verdict(values: Mapping[str, np.ndarray], *, bright: bool) -> tuple[bool, str]:
    """Whether the picks may stay without a warning, and a sentence about it.

    ``values`` is cause -> darkness of all picks if the cause were mended; the key "" is the picks as they are.
    """
    differences = {cause: _difference(v) * (-1 if bright else 1) for cause, v in values.items()}
    given, count, kind = differences[""], len(values[""]), "brighter" if bright else "darker"
    best = min((cause for cause in differences if cause), key=differences.get, default="")
    is_named = bool(best) and differences[best] <= -CAUSE_DIFFERENCE and len(values[best]) * 2 > count
    if given <= -CLEAR_DIFFERENCE and not (is_named and differences[best] <= FAR_BETTER * given):
        return True, f"picks lie on {kind} voxels than random places, as they should"
    if count < FEWEST_PICKS:
        return True, f"{count} picks are too few to tell whether they lie on {kind} voxels; look at the pictures"
    if is_named:
        how = "hardly" if given <= -CLEAR_DIFFERENCE else "do not"
        return False, f"picks {how} lie on {kind} voxels; they would if mended: likely {best}"
    if given >= CLEAR_DIFFERENCE:
        other = "leave --invert out" if bright else "give --invert"
        return False, f"picks lie on the opposite of {kind} voxels; if the contrast is inverted, {other}"
    return False, f"picks do not lie on {kind} voxels than random places; look at the pictures"


def _difference(values: np.ndarray) -> float:
    """In standard errors, of the median: one pick that happens to lie on a particle does not speak for the others."""
    return float(np.median(values) * np.sqrt(len(values) * 2 / np.pi)) if len(values) else 0.0
