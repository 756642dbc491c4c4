"""How often a 95 % interval over tomograms holds the true pooled score, by simulation.

    python -m benchmarks.interval_coverage
    python -m benchmarks.interval_coverage --tomograms 6 12 --campaigns 500

Every simulated campaign draws its tomograms from a population whose pooled score is known. "usual" has about the
numbers of particles, the recalls, the false picks and the spread between tomograms of a real network on five tomograms
of the challenge; in "rare" half of the tomograms have no beta-galactosidase and half no virus-like particle; in "easy"
nearly everything is found; in "bad" a tenth of the tomograms are much worse than all others. Compared are the
percentile bootstrap and BCa (both of scipy, tomograms drawn with replacement), and Student's t with the jackknife's
standard error, plain and on the logit scale (metrics.statistics.score_interval, which tables and report use).
"""

from command_line import run_script

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy.special import expit, logit
from scipy.stats import bootstrap
from scipy.stats import t as student_t

from metrics.fbeta import f_beta
from metrics.statistics import CONFIDENCE, score_interval, standard_error, weighted_f_beta
from particle_config import PARTICLES

TOMOGRAMS = (6, 7, 12, 27)
CAMPAIGNS = 2000
RESAMPLES = 1000
POPULATION = 50_000
WEIGHTS = [particle.score_weight for particle in PARTICLES]
# In the order of the particle table; beta-amylase has no weight.
REFERENCES = (54, 13, 16, 50, 34, 14)
RECALL = (0.95, 0.5, 0.9, 0.96, 0.92, 0.98)
FALSE_PICKS = (38, 100, 104, 58, 168, 4)


@dataclass(frozen=True)
class Population:
    """How tomograms differ.

    Attributes
    ----------
    recall, false_picks : (particles,) of a typical tomogram
    share : (particles,) of the tomograms that have the particle at all
    share_of_bad : of the tomograms that are much worse
    """

    recall: tuple[float, ...] = RECALL
    false_picks: tuple[float, ...] = FALSE_PICKS
    share: tuple[float, ...] = (1, 1, 1, 1, 1, 1)
    share_of_bad: float = 0.0

    def drawn(self, rng: np.random.Generator, runs: int) -> np.ndarray:
        """(runs, particles, 3) counts."""
        # A thick or badly aligned tomogram is worse in every particle.
        bad = rng.random((runs, 1)) < self.share_of_bad
        quality = rng.normal(0, 0.6, (runs, 1)) - 2 * bad + rng.normal(0, 0.4, (runs, len(PARTICLES)))
        crowding = rng.normal(0, 0.35, (runs, 1))  # the false picks grow with the particles
        references = rng.poisson(np.array(REFERENCES) * np.exp(crowding + rng.normal(0, 0.25, (runs, len(PARTICLES)))))
        references *= rng.random(references.shape) < self.share
        hits = rng.binomial(references, expit(logit(np.array(self.recall)) + quality))
        noise = rng.normal(0, 0.3, (runs, len(PARTICLES)))
        false_picks = rng.poisson(np.array(self.false_picks) * np.exp(crowding - 0.3 * quality + noise))
        return np.stack([hits, false_picks, references - hits], axis=-1)


POPULATIONS = {
    "usual": Population(),
    "rare": Population(share=(1, 1, 0.5, 1, 1, 0.5)),
    "easy": Population(recall=6 * (0.995,), false_picks=(2, 5, 5, 3, 8, 0.2)),
    "bad": Population(share_of_bad=0.1),
}


def _bootstrap(counts: np.ndarray, *, method: str) -> tuple[float, float]:
    def scores(index: np.ndarray, axis: int) -> np.ndarray:
        drawn = counts[index].sum(axis=-3)
        weights = np.where(drawn[..., 0] + drawn[..., 2] > 0, WEIGHTS, 0.0)
        return (f_beta(*np.moveaxis(drawn, -1, 0)) * weights).sum(axis=-1) / np.maximum(weights.sum(axis=-1), 1e-9)

    options = {"n_resamples": RESAMPLES, "confidence_level": CONFIDENCE, "vectorized": True, "rng": 0}
    interval = bootstrap((np.arange(len(counts)),), scores, method=method, **options).confidence_interval
    return interval.low, interval.high


def _plain_t(counts: np.ndarray) -> tuple[float, float]:
    score = weighted_f_beta(counts.sum(axis=0), WEIGHTS)
    reach = student_t.ppf((1 + CONFIDENCE) / 2, len(counts) - 1) * standard_error(counts, WEIGHTS)
    return score - reach, score + reach


def _chosen(counts: np.ndarray) -> tuple[float, float]:
    interval = score_interval(counts, WEIGHTS)
    return interval.low, interval.high


WAYS: dict[str, Callable[[np.ndarray], tuple[float, float]]] = {
    "percentile bootstrap": partial(_bootstrap, method="percentile"),
    "BCa bootstrap": partial(_bootstrap, method="BCa"),
    "jackknife and t": _plain_t,
    "jackknife and t, logit": _chosen,
}


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.interval_coverage",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--tomograms", type=int, nargs="+", default=TOMOGRAMS, metavar="N", help="in a campaign")
    parser.add_argument("--campaigns", type=int, default=CAMPAIGNS, metavar="N", help="to simulate")
    parser.add_argument("--populations", nargs="+", choices=POPULATIONS, default=list(POPULATIONS))
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS), help="to make an interval")
    return parser


def main(argv: list[str] | None = None) -> None:
    args = build_parser().parse_args(argv)
    print(f"| population | tomograms | {' | '.join(args.ways)} |\n|---|---|{'---|' * len(args.ways)}")
    for name in args.populations:
        for runs in args.tomograms:
            cells = [
                f"{100 * covered:.1f} %, {width:.3f}"
                for covered, width in coverage(POPULATIONS[name], runs, args.campaigns, args.ways)
            ]
            print(f"| {name} | {runs} | {' | '.join(cells)} |", flush=True)


def coverage(population: Population, runs: int, campaigns: int, ways: list[str]) -> list[tuple[float, float]]:
    """For each way, the share of the intervals that hold the true score, and their mean width."""
    truth = weighted_f_beta(population.drawn(np.random.default_rng(0), POPULATION).sum(axis=0), WEIGHTS)
    drawn = [population.drawn(np.random.default_rng([1, runs, number]), runs) for number in range(campaigns)]
    limits = np.array([[WAYS[way](counts) for counts in drawn] for way in ways])  # (ways, campaigns, 2)
    inside = (limits[..., 0] <= truth) & (truth <= limits[..., 1])
    return list(zip(inside.mean(axis=1), (limits[..., 1] - limits[..., 0]).mean(axis=1), strict=True))


if __name__ == "__main__":
    run_script(main)
