"""Picks that an evaluation is scored by: those of the networks' particles, whatever else lies beside them."""

import warnings

import numpy as np
import pandas as pd
import pytest

from data.czi import Run
from data.picks import run_table, write_picks
from evaluation.truth import hits_of, score_of, truths_of
from particle_config import Particle

# Of somebody else's network; nothing here knows the first.
NETWORK = (
    Particle("proteasome", 75.0, 1.0, 1, "#808000"),
    Particle("ribosome", 150.0, 1.0, 2, "#3cb44b", aliases=("80s",)),
    Particle("decoy", 50.0, 0.0, 3, "#000000"),
)
POINTS = np.array([[10.0, 20.0, 30.0], [40.0, 50.0, 400.0]])


def run(root, name, **picks):
    folder = root / name / "Picks"
    for particle, points in picks.items():
        path = folder / f"{particle}.json"
        write_picks(path, particle_name=particle, run_name=name, coordinates_zyx_angstrom=points)
    return Run(name, {}, folder)


def told(runs):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        truths = truths_of(runs, NETWORK)
    return truths, [str(one.message) for one in caught]


def test_picks_of_particles_that_the_networks_do_not_know_are_named_and_not_scored(tmp_path):
    both = {"proteasome": POINTS, "80s": POINTS + 1}
    runs = [run(tmp_path, f"TS_{i}", **both, spike=POINTS + 2) for i in range(5)] + [
        run(tmp_path, "TS_9", spike=POINTS)
    ]
    truths, [text] = told(runs)
    assert list(truths) == ["TS_0", "TS_1", "TS_2", "TS_3", "TS_4"]  # of TS_9 nothing can be scored
    assert set(truths["TS_0"]["particle_type"]) == {"proteasome", "ribosome"}
    assert "'spike'" in text and "proteasome, ribosome, decoy" in text
    assert f"{runs[0].picks_dir / 'spike.json'}" in text and text.endswith(" and 3 more")
    assert score_of(truths["TS_0"], truths, NETWORK).weighted == pytest.approx(17 / (17 + 16 * 4))  # 4 hits, 16 misses


def test_particles_of_the_networks_without_picks_are_named_where_they_count(tmp_path):
    truths, [text] = told([run(tmp_path, "TS_1", proteasome=POINTS, ribosome=POINTS[:0])])
    assert text.startswith("no run has picks of ribosome:")  # the decoy has no weight
    assert score_of(truths["TS_1"], truths, NETWORK).weighted == 0.5


def test_runs_without_picks_are_not_scored(tmp_path):
    truths, texts = told([run(tmp_path, "TS_1"), Run("TS_2", {}, tmp_path / "x", (tmp_path / "a.ndjson",), "portal")])
    assert truths == {} and len(texts) == 1 and "TS_2 has annotations that are not prepared" in texts[0]


def test_the_best_pick_of_a_reference_is_its_hit():
    truths = {"TS_1": run_table("TS_1", {"ribosome": POINTS}), "TS_2": run_table("TS_2", {"proteasome": POINTS})}
    rows = [
        ("TS_1", "ribosome", 10, 20, 35, 0.4),
        ("TS_2", "ribosome", 10, 20, 30, 0.9),  # none is there
        ("TS_1", "ribosome", 10, 25, 30, 0.8),
        ("TS_3", "ribosome", 10, 20, 30, 0.9),  # nobody knows
        ("TS_1", "ribosome", 40, 50, 474, 0.1),  # within half the radius, inclusive
        ("TS_1", "ribosome", 40, 50, 324.9, 0.9),
        ("TS_1", "proteasome", 10, 20, 30, 0.9),
    ]
    picks = pd.DataFrame(rows, columns=["experiment", "particle_type", "z", "y", "x", "score"], index=range(10, 17))
    assert hits_of(picks, truths, NETWORK) == [False, False, True, None, True, False, False]
    assert hits_of(picks.iloc[:0], truths, NETWORK) == []
    counted = score_of(picks, truths, NETWORK).per_particle["true_positives"]
    assert counted["ribosome"] == 2
