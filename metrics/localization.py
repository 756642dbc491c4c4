"""How far the hits lie from the truth, along z and in the plane: the missing wedge blurs the one more than the other.

errors = position_error(np.concatenate(list(hit_offsets_per_particle(picks, truth).values())))
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.spatial import KDTree

from metrics.fbeta import MATCH_RADIUS_FRACTION
from particle_config import PARTICLES, Particle


@dataclass(frozen=True)
class PositionError:
    """Errors per axis in angstrom: those in the plane are taken over y and x alike, so that they compare with z.

    Attributes
    ----------
    hits : number of offsets
    rms_z, rms_xy : root of the mean squared offset, a constant shift included
    median_z, median_xy : median of the absolute offset, which a few stray hits do not move
    All four are NaN without hits.
    """

    hits: int
    rms_z: float
    rms_xy: float
    median_z: float
    median_xy: float


def hit_offsets(picks_zyx: np.ndarray, references_zyx: np.ndarray, radius: float) -> np.ndarray:
    """Offset of every hit from its reference, for one particle type in one run.

    Picks and references are paired one to one, the closest pair first, until no pair within the radius is left: of
    two picks near one reference the nearer counts and the other is no hit. The score of a pick plays no part. (The
    challenge's count of hits pairs nothing and can be larger: one pick that reaches two references hits both.)

    Parameters
    ----------
    picks_zyx, references_zyx : (N, 3) and (M, 3), in one unit; either may be empty
    radius : in that unit, inclusive; no offset is longer

    Returns
    -------
    (K, 3) pick - reference in z, y, x, closest pair first; of equal distances the first reference, then the first
    pick. Exchanging picks and references turns every offset round.
    """
    if len(picks_zyx) == 0 or len(references_zyx) == 0:
        return np.empty((0, 3))
    picks_zyx, references_zyx = np.asarray(picks_zyx, float), np.asarray(references_zyx, float)
    near = KDTree(references_zyx).query_ball_point(picks_zyx, r=radius)
    pick = np.repeat(np.arange(len(near)), [len(found) for found in near])
    reference = np.concatenate([np.asarray(found, int) for found in near])
    offsets = picks_zyx[pick] - references_zyx[reference]
    free_picks, free_references, pairs = set(pick.tolist()), set(reference.tolist()), []
    for pair in np.lexsort((pick, reference, np.linalg.norm(offsets, axis=1))):
        if pick[pair] in free_picks and reference[pair] in free_references:
            free_picks.remove(pick[pair])
            free_references.remove(reference[pair])
            pairs.append(pair)
    return offsets[pairs]


def hit_offsets_per_particle(
    picks: pd.DataFrame, truth: pd.DataFrame, *, particles: Iterable[Particle] = PARTICLES
) -> dict[str, np.ndarray]:
    """Particle name -> (K, 3) offsets in angstrom of its hits in all runs of the truth, within the match radius.

    Tables have the columns experiment, particle_type, x, y, z (angstrom).
    """

    def points(table: pd.DataFrame, run: str, name: str) -> np.ndarray:
        rows = table[(table["experiment"] == run) & (table["particle_type"] == name)]
        return rows[["z", "y", "x"]].to_numpy(float)

    runs = sorted(truth["experiment"].unique())
    return {
        particle.name: np.concatenate(
            [
                np.empty((0, 3)),
                *(
                    hit_offsets(
                        points(picks, run, particle.name),
                        points(truth, run, particle.name),
                        MATCH_RADIUS_FRACTION * particle.radius_angstrom,
                    )
                    for run in runs
                ),
            ]
        )
        for particle in particles
    }


def position_error(offsets_zyx: np.ndarray) -> PositionError:
    """Summary of (K, 3) offsets in angstrom, pick - reference in z, y, x."""
    if len(offsets_zyx) == 0:
        return PositionError(0, *[float("nan")] * 4)
    z, xy = offsets_zyx[:, 0], offsets_zyx[:, 1:]
    rms = [float(np.sqrt(np.mean(axis**2))) for axis in (z, xy)]
    medians = [float(np.median(np.abs(axis))) for axis in (z, xy)]
    return PositionError(len(offsets_zyx), *rms, *medians)
