"""Which of the picks found in a tomogram are wanted."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from data.picks import table_coordinates_zyx

INSIDE, OUTSIDE = "inside", "outside"


@dataclass(frozen=True)
class Selection:
    """What is asked of picks.

    Attributes
    ----------
    particles : names of those that are wanted
    min_confidence : from 0 to 1; picks whose confidence is not known are left out
    max_per_tomogram : of each particle, the best
    exclude_edge_angstrom : how far from the faces of the tomogram
    mask_side : of the mask, where the tomogram has one: inside or outside
    """

    particles: tuple[str, ...]
    min_confidence: float | None = None
    max_per_tomogram: int | None = None
    exclude_edge_angstrom: float = 0.0
    mask_side: str = INSIDE


def select(
    picks: pd.DataFrame,
    selection: Selection,
    *,
    shape_zyx: Sequence[int],
    voxel_size_zyx_angstrom: Sequence[float],
    mask: np.ndarray | None = None,
) -> pd.DataFrame:
    """The rows of a table of picks that are wanted, in their order.

    Parameters
    ----------
    picks : of one tomogram, see data.picks; angstrom from the centre of its first voxel
    shape_zyx, voxel_size_zyx_angstrom : of the tomogram; it reaches half a voxel beyond the centres of its outer voxels
    mask : (Z, Y, X) of the same volume, also in voxels of another size; 0 is outside

    Returns
    -------
    A table with the same columns. The best of each particle are those of highest score, of equal ones the first.
    """
    points = table_coordinates_zyx(picks)
    size, shape = np.asarray(voxel_size_zyx_angstrom), np.asarray(shape_zyx)
    from_first_face = points + size / 2
    to_last_face = shape * size - from_first_face
    wanted = picks["particle_type"].isin(selection.particles).to_numpy(copy=True)
    if selection.min_confidence is not None:
        wanted &= (picks["confidence"] >= selection.min_confidence).to_numpy()
    if selection.exclude_edge_angstrom:
        wanted &= (
            np.minimum(from_first_face, to_last_face).min(axis=1, initial=np.inf) >= selection.exclude_edge_angstrom
        )
    if mask is not None:
        wanted &= is_inside(mask, from_first_face / (shape * size)) == (selection.mask_side == INSIDE)
    kept = picks[wanted]
    if selection.max_per_tomogram is not None:
        best = kept.sort_values("score", ascending=False, kind="stable").groupby("particle_type", sort=False)
        kept = kept.loc[best.head(selection.max_per_tomogram).index.sort_values()]
    return kept.reset_index(drop=True)


def is_inside(mask: np.ndarray, fractions_zyx: np.ndarray) -> np.ndarray:
    """(N,) whether positions lie in the mask.

    Parameters
    ----------
    mask : (Z, Y, X); 0 is outside
    fractions_zyx : (N, 3) of the way from the first face to the last; beyond them counts as the outermost voxel
    """
    voxels = np.floor(fractions_zyx * mask.shape).astype(np.int64)
    z, y, x = np.clip(voxels, 0, np.array(mask.shape) - 1).T
    return mask[z, y, x] != 0
