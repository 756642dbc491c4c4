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

from data.picks import write_picks
from errors import InputError
from particle_config import (
    PARTICLES,
    Particle,
    check_table,
    find_particle,
    read_table,
    table_as_dicts,
    table_from_dicts,
)

ROOT = Path(__file__).parents[1]


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


# --- A table of one's own -----------------------------------------------------------------------------
def written(path, content):
    path.write_text(json.dumps(content))
    return path


def test_rows_of_a_file_take_the_place_of_all_others(tmp_path):
    rows = [
        {"name": "spike", "radius_angstrom": 90, "label": 2, "score_weight": 2.5, "color": "#102030", "aliases": ["s"]},
        {"name": "proteasome", "radius_angstrom": 80.0, "label": 1},
    ]
    first, second = read_table(written(tmp_path / "particles.json", rows))
    assert (first.name, first.label, first.score_weight) == ("proteasome", 1, 1.0)
    assert (second.name, second.radius_angstrom, second.score_weight) == ("spike", 90, 2.5)
    assert second.colour == "#102030" and find_particle("S", (first, second)) == second


def test_the_config_of_a_copick_project(tmp_path):
    objects = [
        {"name": "membrane", "is_particle": False, "label": 1},
        {"name": "spike", "is_particle": True, "label": 7, "radius": 90, "metadata": {"score_weight": 2}},
        {"name": "ribosome", "is_particle": True, "label": 3, "radius": 150, "color": [60, 180, 75, 255]},
    ]
    first, second = read_table(written(tmp_path / "config.json", {"pickable_objects": objects}))
    assert (first.name, first.label, first.colour) == ("ribosome", 1, "#3cb44b")
    assert (second.name, second.label, second.score_weight) == ("spike", 2, 2)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ([], "no list of particles"),
        ({"pickable_objects": [{"name": "a"}]}, "radius_angstrom is None"),
        ([{"name": "a"}], "radius_angstrom is None"),
        ([{"name": "a", "radius_angstrom": 0}], "radius of a must be above 0"),
        ([{"name": "a", "radius_angstrom": 5, "lable": 1}], "'lable' is no property"),
        ([{"name": "a", "radius_angstrom": 5, "label": 0}], "labels must be 1, 2, 3"),
        ([{"name": "a", "radius_angstrom": 5, "colour": "red"}], "colour is 'red'"),
        ([{"name": "a", "radius_angstrom": 5}, {"name": "A", "radius_angstrom": 5}], "stands in two rows"),
        ([{"name": 5, "radius_angstrom": 5}], "name is 5"),
    ],
)
def test_mistakes_in_a_file_are_named(tmp_path, content, problem):
    with pytest.raises(InputError, match=problem):
        read_table(written(tmp_path / "particles.json", content))


def test_scripts_take_the_table_and_name_its_mistakes(tmp_path):
    """Two particles of other names: masks, training, and an evaluation with that network."""
    rows = [{"name": "spike", "radius_angstrom": 60}, {"name": "proteasome", "radius_angstrom": 80}]
    table = written(tmp_path / "particles.json", rows)
    for seed, run in enumerate(("TS_1", "TS_2")):
        tiny_campaign.write_run(tmp_path, run, seed)
        folder = tmp_path / "train" / "overlay" / "ExperimentRuns" / run / "Picks"
        shutil.rmtree(folder)
        for row in rows:
            points = np.array([[60.0, 80.0, 100.0 + row["radius_angstrom"]]])
            path = folder / f"{row['name']}.json"
            write_picks(path, particle_name=row["name"], run_name=run, coordinates_zyx_angstrom=points)

    def run(script, *words, particles=table):
        return subprocess.run(
            [sys.executable, ROOT / script, "--data_root", tmp_path, *map(str, words)],
            env={**os.environ, "ETFINDER_PARTICLES": str(particles), "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
        )

    out, cache = ("--output_dir", tmp_path / "out"), ("--cache_dir", tmp_path / "cache", "--device", "cpu")
    short = ("--patch_size", 16, 32, 32, "--epochs", 1, "--steps_per_epoch", 1, "--fold", 0, "--experiment_name", "own")
    for script, words in (("prepare_mask_czi.py", ()), ("train.py", (*out, *cache, *short))):
        done = run(script, *words)
        assert done.returncode == 0, done.stderr
    network = ("--model_path", tmp_path / "out" / "own")
    done = run("eval_public_czi.py", *network, *cache, "--output_dir", tmp_path / "results")
    assert done.returncode == 0 and "spike" in done.stdout and "apo-ferritin" not in done.stdout, done.stderr
    assert {path.stem for path in (tmp_path / "results/picks/TS_1").glob("[!.]*.json")} == {"spike", "proteasome"}
    done = run("train.py", particles=tmp_path / "none.json")
    assert done.returncode == 2 and done.stderr.startswith("error: ETFINDER_PARTICLES: ") and "Trace" not in done.stderr
