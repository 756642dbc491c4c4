"""What a campaign costs beside its networks and detections: 48 configurations of untrained networks on small noise.

    python -m benchmarks.campaign_cost --tomograms 40

Two experiments of two folds, three strategies, four methods, with and without views. The campaign runs once, and again
when everything is finished: then only the bookkeeping is left (keys, tables, paired tests, report). The same on a
quarter of the tomograms: the difference gives the cost of each result, which is the picks of one detector in one
tomogram, and what it comes to for 500 tomograms and experiments of seven folds.
"""

from command_line import run_script

import argparse
import contextlib
import io
import tempfile
import time
from pathlib import Path

import run_experiment_evaluation
from tests import tiny_campaign

# Of 500 tomograms and two experiments of seven folds: (7 + 7 + 1) detectors, 4 methods, 2 sets of views.
RESULTS = 500 * 2 * 15 * 4 * 2


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.campaign_cost",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--tomograms", type=int, default=40, help="to evaluate on")
    return parser


def main(argv: list[str] | None = None) -> None:
    args = build_parser().parse_args(argv)
    few = max(args.tomograms // 4, 1)
    with tempfile.TemporaryDirectory() as folder:
        words, root = make(Path(folder), args.tomograms), Path(folder)
        (results, seconds), (fewer, of_fewer) = (finished_again(words, root, n) for n in (args.tomograms, few))
    each = (seconds - of_fewer) / (results - fewer)
    print(
        f"finished before: {results} results {seconds:.1f} s, {fewer} results {of_fewer:.1f} s; {each * 1e3:.2f} ms "
        f"each, {RESULTS} results {each * RESULTS / 60:.1f} minutes"
    )


def finished_again(words: list[str], root: Path, tomograms: int) -> tuple[int, float]:
    """Results of the campaign on the first tomograms, and seconds of its second run."""
    out = root / f"out_{tomograms}"
    words = [*words, "--output_dir", str(out), "--limit_final_eval_tomos", str(tomograms)]
    seconds = [seconds_of(words) for _ in range(2)]
    results = len(list(out.glob("*/*/*/picks/*")))
    print(f"{tomograms} tomograms, {results} results: {seconds[0]:.1f} s, again {seconds[1]:.1f} s", flush=True)
    return results, seconds[1]


def make(root: Path, tomograms: int) -> list[str]:
    """Data and networks; the flags of the campaign."""
    runs = [f"TS_{number:04d}" for number in range(tomograms)]
    for seed, name in enumerate(tiny_campaign.TRAINING):
        tiny_campaign.write_run(root / "data", name, seed)
    for seed, name in enumerate(runs, start=10):
        tiny_campaign.write_run(root / "public", name, seed)
    for seed, name in enumerate(("df1", "df2")):
        tiny_campaign.write_experiment(root / "checkpoints" / name, root / "data", seed, tiny_campaign.NAMES)
    return tiny_campaign.command(
        *(root, "--use_tta", "--compare_tta", "--tta_group", "d2"),
        *("--evaluation_strategy", "best_single", "ensemble_specialists", "kfold_ensemble"),
        *("--postprocessing_method", "peak_local_max_gpu", "cc3d", "watershed", "meanshift"),
    )


def seconds_of(words: list[str]) -> float:
    begin = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):
        run_experiment_evaluation.main(words)
    return time.perf_counter() - begin


if __name__ == "__main__":
    run_script(main)
