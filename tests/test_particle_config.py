"""The particle table: names, aliases, and adding a row."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny_campaign
from script_process import ROOT, run_script_process

from data.picks import write_picks
from errors import InputError
from particle_config import (
    PARTICLES,
    Particle,
    check_table,
    find_particle,
    given_table,
    table_as_dicts,
    table_from_dicts,
)


def test_the_table_of_the_challenge():
    rows = [(p.name, p.radius_angstrom, p.score_weight, p.label) for p in PARTICLES]
    assert rows == [
        ("apo-ferritin", 60, 1, 1),
        ("beta-amylase", 65, 0, 2),
        ("beta-galactosidase", 90, 2, 3),
        ("ribosome", 150, 1, 4),
        ("thyroglobulin", 130, 2, 5),
        ("virus-like-particle", 135, 1, 6),
    ]


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("ferritin_complex", "apo-ferritin"),
        ("Beta_Amylase", "beta-amylase"),
        ("beta galactosidase", "beta-galactosidase"),
        ("cytosolic_ribosome", "ribosome"),
        ("virus_like_capsid", "virus-like-particle"),
        ("virus-like_capsid", "virus-like-particle"),
        ("PP7_VLP", "virus-like-particle"),
        ("pseudomonas_phage_pp7_vlp", "virus-like-particle"),
    ],
)
def test_portal_names(spelling, name):
    assert find_particle(spelling).name == name


def test_an_unknown_name_is_not_guessed():
    assert find_particle("ferritin-like") is None


def test_plain_values_and_back():
    assert table_from_dicts(table_as_dicts(PARTICLES)) == PARTICLES


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (Particle("proteasome", 60, 1, 9, "#fff"), "labels"),
        (Particle("cytosolic ribosome", 60, 1, 7, "#fff"), "two rows"),
        (Particle("proteasome", 0, 1, 7, "#fff"), "radius"),
    ],
)
def test_a_wrong_row_is_refused(row, reason):
    with pytest.raises(InputError, match=reason):
        check_table((*PARTICLES, row))


def test_a_good_row_is_accepted():
    check_table((*PARTICLES, Particle("proteasome", 80, 1, 7, "#123456")))


# --- A file of one's own ------------------------------------------------------------------------------
def written(tmp_path, content):
    path = tmp_path / "particles.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_own_rows_are_numbered_in_order(tmp_path):
    rows = [
        {"name": "proteasome", "radius_angstrom": 75},
        {"name": "ncp", "radius_angstrom": 50, "score_weight": 2, "color": "#4363D8", "aliases": ["nucleosome"]},
    ]
    first, second = given_table(str(written(tmp_path, rows)))
    assert (first.name, first.radius_angstrom, first.label, first.score_weight) == ("proteasome", 75, 1, 1)
    assert (second.label, second.score_weight, second.colour, second.aliases) == (2, 2, "#4363d8", ("nucleosome",))
    assert given_table(None) is None


def test_a_copick_configuration_counts_by_its_labels_without_what_is_no_particle(tmp_path):
    objects = [
        {"name": "b", "label": 5, "radius": 60, "color": [255, 0, 16, 128], "metadata": {"score_weight": 2}},
        {"name": "membrane", "is_particle": False, "label": 1},
        {"name": "a", "is_particle": True, "label": 3, "radius": 80.5},
    ]
    found = given_table(str(written(tmp_path, {"pickable_objects": objects})))
    assert [(p.name, p.label, p.radius_angstrom, p.score_weight) for p in found] == [("a", 1, 80.5, 1), ("b", 2, 60, 2)]
    assert found[1].colour == "#ff0010"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("[", "cannot be read as JSON"),
        ([], "holds 0 particles"),
        ({"a": 1}, "neither a list"),
        ([{"name": "a"}], "radius_angstrom is missing"),
        ([{"name": "a", "radius_angstrom": 0}], "from 1 to 10000"),
        ([{"name": "a", "radius_angstrom": 1e308}], "from 1 to 10000"),
        ([{"name": "a", "radius_angstrom": 5, "label": 0}], "label is 0"),
        ([{"name": n, "radius_angstrom": 5} for n in ("a", "A")], "stands in two rows"),
        ([{"name": n, "radius_angstrom": 5, "label": 1} for n in "ab"], "same label 1"),
        ([{"name": "a", "radius_angstrom": 5, "label": 2}], "no gaps"),
        ([{"name": "a", "radius_angstrom": 5, "weight": 2}], "unknown key 'weight'"),
        ([{"name": "fscore", "radius_angstrom": 5}], "name is 'fscore'"),
        ([{"name": "a", "radius_angstrom": 5, "score_weight": 0}], "every score_weight is 0"),
    ],
)
def test_mistakes_in_an_own_table_are_named(tmp_path, content, reason):
    with pytest.raises(InputError, match=reason):
        given_table(str(written(tmp_path, content)))


def test_a_missing_table_ends_a_script_with_one_line(tmp_path):
    command = [sys.executable, "prepare_mask_czi.py", "--data_root", str(tmp_path)]
    where = {"cwd": Path(__file__).parents[1], "env": {"ETFINDER_PARTICLES": str(tmp_path / "none.json")}}
    done = subprocess.run(command, capture_output=True, text=True, **where)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "no such file of particles" in done.stderr


def test_scripts_take_the_table_and_name_its_mistakes(tmp_path):
    """Two particles of other names: masks, training, and an evaluation with that network."""
    rows = [{"name": "spike", "radius_angstrom": 60}, {"name": "proteasome", "radius_angstrom": 80}]
    table = written(tmp_path, rows)
    for seed, run in enumerate(("TS_1", "TS_2")):
        tiny_campaign.write_run(tmp_path, run, seed)
        folder = tmp_path / "train" / "overlay" / "ExperimentRuns" / run / "Picks"
        shutil.rmtree(folder)
        for row in rows:
            points = np.array([[60.0, 80.0, 100.0 + row["radius_angstrom"]]])
            path = folder / f"{row['name']}.json"
            write_picks(path, particle_name=row["name"], run_name=run, coordinates_zyx_angstrom=points)

    def run(script, *words, particles=table):
        environment = {**os.environ, "ETFINDER_PARTICLES": str(particles), "OMP_NUM_THREADS": "1"}
        return run_script_process(ROOT / script, "--data_root", tmp_path, *words, environment=environment)

    out, cache = ("--output_dir", tmp_path / "out"), ("--cache_dir", tmp_path / "cache", "--device", "cpu")
    short = ("--patch_size", 16, 32, 32, "--epochs", 1, "--steps_per_epoch", 1, "--fold", 0, "--experiment_name", "own")
    for script, words in (("prepare_mask_czi.py", ()), ("train.py", (*out, *cache, *short))):
        done = run(script, *words)
        assert done.returncode == 0, done.stderr
    network = ("--model_path", tmp_path / "out" / "own")
    done = run("eval_public_czi.py", *network, *cache, "--output_dir", tmp_path / "results")
    assert done.returncode == 0 and "spike" in done.stdout and "apo-ferritin" not in done.stdout, done.stderr
    without = run("eval_public_czi.py", *network, *cache, "--output_dir", tmp_path / "without", particles="")
    assert without.returncode == 0 and "spike" in without.stdout, without.stderr  # the network's own table
    other = written(tmp_path / "train", [{**rows[0], "radius_angstrom": 61}, rows[1]])
    done = run("eval_public_czi.py", *network, *cache, "--output_dir", tmp_path / "other", particles=other)
    assert done.returncode == 2 and f"spike (60 A) there and spike (61 A) in {other}" in done.stderr
    assert {path.stem for path in (tmp_path / "results/picks/TS_1").glob("[!.]*.json")} == {"spike", "proteasome"}
    done = run("train.py", particles=tmp_path / "none.json")
    assert done.returncode == 2 and "error: ETFINDER_PARTICLES" in done.stderr and "Trace" not in done.stderr
