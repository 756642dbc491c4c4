"""Whether picks can be right: they lie inside their tomogram; and the usual mistakes that put them elsewhere."""

from collections.abc import Callable, Mapping

import numpy as np

from errors import InputError

# A pick may lie on the outer half of a border voxel.
BORDER_VOXELS = 0.5
FACTORS = (2.0, 4.0, 8.0, 0.5, 0.25, 0.125)


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
