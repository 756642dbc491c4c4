"""How far picks lie from the truth, along z and in the plane: the missing wedge blurs the one more than the other.

errors = position_error(np.concatenate(list(offsets_per_particle(picks, truth).values())))
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.spatial import KDTree

from metrics.fbeta import MATCH_RADIUS_FRACTION, points
from particle_config import PARTICLES, Particle


@dataclass(frozen=True)
class PositionError:
    """Errors per axis in angstrom: those in the plane are taken over y and x alike, so that they compare with z.

    Attributes
    ----------
    pairs : number of offsets, one for each pair of a pick and a reference; hits of the score can be more
    rms_z, rms_xy : root of the mean squared offset, a constant shift included
    median_z, median_xy : median of the absolute offset, which a few stray pairs do not move
    All four are NaN without pairs.
    """

    pairs: int
    rms_z: float
    rms_xy: float
    median_z: float
    median_xy: float


def pair_offsets(picks_zyx: np.ndarray, references_zyx: np.ndarray, radius: float) -> np.ndarray:
    """Offset of every paired pick from its reference, for one particle type in one run.

    Picks and references are paired one to one, the closest pair first, until no pair within the radius is left: of
    two picks near one reference the nearer is taken. The score of a pick plays no part. (The challenge counts hits
    without pairing and can count more: one pick that reaches two references hits both, see metrics.fbeta.)

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


def offsets_per_particle(
    picks: pd.DataFrame, truth: pd.DataFrame, *, particles: Iterable[Particle] = PARTICLES
) -> dict[str, np.ndarray]:
    """Particle name -> (K, 3) offsets in angstrom of its pairs in all runs of the truth, within the match radius.

    Tables have the columns experiment, particle_type, x, y, z (angstrom).
    """
    found, true, nothing = points(picks), points(truth), np.empty((0, 3))
    runs = sorted(truth["experiment"].unique())
    offsets = {}
    for particle in particles:
        keys, radius = [(run, particle.name) for run in runs], MATCH_RADIUS_FRACTION * particle.radius_angstrom
        pairs = [pair_offsets(found.get(key, nothing), true.get(key, nothing), radius) for key in keys]
        offsets[particle.name] = np.concatenate([nothing, *pairs])
    return offsets


def position_error(offsets_zyx: np.ndarray) -> PositionError:
    """Summary of (K, 3) offsets in angstrom, pick - reference in z, y, x."""
    if len(offsets_zyx) == 0:
        return PositionError(0, *[float("nan")] * 4)
    z, xy = offsets_zyx[:, 0], offsets_zyx[:, 1:]
    rms = [float(np.sqrt(np.mean(axis**2))) for axis in (z, xy)]
    medians = [float(np.median(np.abs(axis))) for axis in (z, xy)]
    return PositionError(len(offsets_zyx), *rms, *medians)
