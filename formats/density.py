"""Whether picks lie on particles: their grey values against those of random places."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.special import ndtri
from scipy.stats import norm

from formats.plausibility import is_inside

# Standard errors by which picks must be darker than random places, and picks below which nothing can be told.
CLEAR_DIFFERENCE, FEWEST_PICKS = 3.0, 5
# The same for the best of all mistakes: one of so many may be that much darker by chance, and picks are crowded.
CAUSE_DIFFERENCE = 5.0
# A mistake is also named if picks would be so many times darker without it: they may be a little darker by chance.
FAR_BETTER = 2.0
# Picks of a particle that are darker by so many standard errors may be right: some particles are hardly darker.
HARDLY_DIFFERENCE = 2.0
# Below these fractions of plausible picks, of all and of a part of them, something is wrong.
MOST, HALF = 0.75, 0.5
# Twice the logarithm of the ratio of likelihoods that shows that not all picks are plausible; a fraction below 1 is
# given from the second on.
SURE, LIKELY = 10.0, 4.0
RANDOM_PLACES = 2000
# Half the side of the cube and the bounds of the shell, by the particle's radius: hollow particles such as capsids and
# ferritin are dark in their shell only.
CUBE_FRACTION, WIDEST_CUBE_VOXELS = 0.6, 5
SHELL_FRACTIONS, SHELL_VOXELS = (0.6, 1.0), 343


@dataclass(frozen=True)
class GreyValues:
    """What lies at the picks of one particle of one file in one run.

    Attributes
    ----------
    darkness : name of a mistake -> (M,) grey values, if it were mended, in standard deviations of those at random
        places; negative is darker. "" is the picks as they are; picks outside are left out.
    share_darker : (M,), of the picks as they are: the share of random places that are as dark.
    """

    run: str
    particle: str
    path: Path
    darkness: Mapping[str, np.ndarray]
    share_darker: np.ndarray


# Parts of the picks that are judged by themselves, and of how many it is said that they are wrong.
KEYS = {"particle": lambda one: one.particle, "run": lambda one: one.run, "file": lambda one: str(one.path)}
MOST_PARTS = 5


def grey_values(
    volume: np.ndarray, places: Mapping[str, np.ndarray], spacing_angstrom: float, radius_angstrom: float
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Darkness and share_darker, as in GreyValues, of points in a volume (Z, Y, X).

    ``places`` is a name -> (N, 3) zyx angstrom. A grey value is the mean of a cube about as large as the particle, or
    of the particle's shell, whichever is darker.
    """
    random = np.random.default_rng(0).integers(0, np.array(volume.shape), (RANDOM_PLACES, 3))
    centres = {
        name: np.rint(points[is_inside(points, volume.shape, spacing_angstrom)] / spacing_angstrom).astype(int)
        for name, points in places.items()
    }
    found: dict[str, np.ndarray] = {}
    shares = np.empty(0)
    for offsets in _regions(radius_angstrom / spacing_angstrom):
        reference = np.sort(_means(volume, random, offsets))
        middle, deviation = reference.mean(), max(float(reference.std()), 1e-30)
        for name, voxels in centres.items():
            means = _means(volume, voxels, offsets)
            values = (means - middle) / deviation
            if name not in found or _difference(values) < _difference(found[name]):
                found[name] = values
                if name == "":
                    shares = (np.searchsorted(reference, means, side="right") + 0.5) / (RANDOM_PLACES + 1)
    return found, shares


def _regions(radius_voxels: float) -> list[np.ndarray]:
    """Offsets (K, 3) of the voxels of the cube and of the shell about a centre; a small particle has no shell."""
    half = int(np.clip(round(CUBE_FRACTION * radius_voxels), 0, WIDEST_CUBE_VOXELS))
    cube = np.indices((2 * half + 1,) * 3).reshape(3, -1).T - half
    side = int(np.ceil(radius_voxels))
    around = np.indices((2 * side + 1,) * 3).reshape(3, -1).T - side
    distance = np.linalg.norm(around, axis=1) / radius_voxels
    shell = around[(distance >= SHELL_FRACTIONS[0]) & (distance <= SHELL_FRACTIONS[1])]
    if len(shell) > SHELL_VOXELS:
        shell = np.random.default_rng(0).permutation(shell)[:SHELL_VOXELS]
    return [cube, shell] if half > 1 and len(shell) else [cube]


def _means(volume: np.ndarray, centres: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """(N,) means over the voxels at centres (N, 3) plus offsets (K, 3), those beyond the border taken from it."""
    z, y, x = (np.clip(centres[:, axis, None] + offsets[:, axis], 0, volume.shape[axis] - 1) for axis in range(3))
    return volume[z, y, x].mean(axis=1, dtype=np.float64)


def plausible_fraction(share_darker: np.ndarray) -> tuple[float, float]:
    """How many of the picks are not as random places are: the fraction, and twice the log-likelihood against all.

    The picks are a mixture of random places, whose shares are uniform (as normal scores: of mean 0 and deviation 1),
    and darker ones of any mean and deviation; its likelihood is the largest.
    """
    edges = np.arange(-4.0, 4.05, 0.1)
    scores = np.clip(ndtri(np.clip(share_darker, 1e-6, 1 - 1e-6)), edges[0], edges[-1])
    counts, _ = np.histogram(scores, edges)
    middles = (edges[:-1] + edges[1:]) / 2
    means, deviations = np.arange(-3.6, -0.4, 0.2)[:, None, None], np.array([0.2, 0.4, 0.8, 1.2])[:, None]
    dark = norm.pdf(middles, means, deviations).reshape(-1, len(middles))
    fractions = np.linspace(0, 1, 51)
    mixture = fractions[:, None, None] * dark + (1 - fractions)[:, None, None] * norm.pdf(middles)
    likelihood = (counts * np.log(mixture + 1e-12)).sum(axis=2).max(axis=1)
    return float(fractions[likelihood.argmax()]), float(2 * (likelihood.max() - likelihood[-1]))


def density_verdict(
    values: Mapping[str, np.ndarray], share_darker: np.ndarray | None = None, *, bright: bool = False
) -> tuple[bool, str]:
    """Whether the picks may stay without a warning, and a sentence about it.

    ``values`` and ``share_darker`` are as in GreyValues, of all picks; ``bright`` is for the words: grey values are
    those of the inverted volume then.
    """
    differences = {cause: _difference(v) for cause, v in values.items()}
    given, count, kind = differences[""], len(values[""]), "brighter" if bright else "darker"
    best = min((cause for cause in differences if cause), key=differences.get, default="")
    is_named = bool(best) and differences[best] <= -CAUSE_DIFFERENCE and len(values[best]) * 2 > count
    if given <= -CLEAR_DIFFERENCE and not (is_named and differences[best] <= FAR_BETTER * given):
        return _how_many(share_darker, kind)
    if count < FEWEST_PICKS:
        return True, f"{count} picks are too few to tell whether they lie on {kind} voxels; look at the pictures"
    if is_named:
        how = "hardly" if given <= -CLEAR_DIFFERENCE else "do not"
        return False, f"picks {how} lie on {kind} voxels; they would if mended: likely {best}"
    if given >= CLEAR_DIFFERENCE:
        other = "leave --invert out" if bright else "give --invert"
        return False, f"picks lie on the opposite of {kind} voxels; if the contrast is inverted, {other}"
    if share_darker is not None and len(share_darker):
        fraction, odds = plausible_fraction(share_darker)
        if odds >= SURE and fraction > 0.1:
            return False, _only(fraction, count, kind)
    return False, f"picks do not lie on {kind} voxels than random places; look at the pictures"


def _how_many(share_darker: np.ndarray | None, kind: str) -> tuple[bool, str]:
    text = f"picks lie on {kind} voxels than random places, as they should"
    if share_darker is None:
        return True, text
    fraction, odds = plausible_fraction(share_darker)
    if odds >= SURE and fraction < MOST:
        return False, _only(fraction, len(share_darker), kind)
    return True, f"{text} (about {fraction if odds >= LIKELY else 1.0:.0%} of {len(share_darker)} are plausible)"


def _only(fraction: float, count: int, kind: str) -> str:
    return (
        f"only about {fraction:.0%} of {count} picks lie on {kind} voxels, the others as random places do; "
        "look at the pictures"
    )


def joined(found: Sequence[GreyValues]) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Darkness and share_darker of all."""
    causes = found[0].darkness
    darkness = {cause: np.concatenate([one.darkness[cause] for one in found]) for cause in causes}
    return darkness, np.concatenate([one.share_darker for one in found])


def wrong_parts(found: Sequence[GreyValues], *, bright: bool) -> list[str]:
    """A sentence about every run, file and particle whose picks are not plausible although others are.

    The worst part comes first, and the others are judged without it: a wrong particle is no fault of all runs.
    """
    left, sentences = list(found), []
    while len(sentences) < MOST_PARTS:
        parts = [part for kind in KEYS for part in _wrong_parts_of_kind(kind, left, bright)]
        if not parts:
            break
        _, _, words, left = max(parts, key=lambda part: part[:2])
        sentences.append(words)
    return sentences


def _wrong_parts_of_kind(kind: str, found: list[GreyValues], bright: bool) -> Iterator[tuple[float, int, str, list]]:
    """How many are brighter than half of the random places, number of picks, sentence, others; of each wrong part."""
    key_of = KEYS[kind]
    for key in dict.fromkeys(map(key_of, found)):
        here = [one for one in found if key_of(one) == key]
        others = [one for one in found if key_of(one) != key]
        darkness, shares = joined(here)
        if not others or len(shares) < FEWEST_PICKS:
            continue
        fraction, odds = plausible_fraction(shares)
        if _is_wrong(kind, darkness[""], here, others) or (odds >= SURE and fraction < HALF):
            is_plausible, words = density_verdict(darkness, shares, bright=bright)
            words = _only(fraction, len(shares), "brighter" if bright else "darker") if is_plausible else words
            yield float((shares > 0.5).mean()), len(shares), f"{kind} {key}: {words}", others


def _is_wrong(kind: str, values: np.ndarray, here: list[GreyValues], others: list[GreyValues]) -> bool:
    if kind == "particle":
        # Another kind of particle may have another contrast, but shows that positions are right.
        others_are_clear = _difference(joined(others)[0][""]) <= -CLEAR_DIFFERENCE
        return others_are_clear and _difference(values) > -HARDLY_DIFFERENCE
    particles = {one.particle for one in here}
    same = [one.darkness[""] for one in others if one.particle in particles]
    # As dark as the others of their kind they would be clear.
    expected = float(np.median(np.concatenate(same))) * np.sqrt(len(values) * 2 / np.pi) if same else 0.0
    return _difference(values) > -CLEAR_DIFFERENCE and expected < -2 * CLEAR_DIFFERENCE


def _difference(values: np.ndarray) -> float:
    """In standard errors, of the median: one pick that happens to lie on a particle does not speak for the others."""
    return float(np.median(values) * np.sqrt(len(values) * 2 / np.pi)) if len(values) else 0.0
