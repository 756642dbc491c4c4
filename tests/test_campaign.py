"""Campaigns: what they write, what they never do twice, and what a kill at any moment leaves."""

import json
import random
import re
import shlex
import shutil
import time
from dataclasses import replace
from pathlib import Path
from unittest import mock

import mrcfile
import numpy as np
import pandas as pd
import pytest
import tiny_campaign
import torch
from script_process import CONTEXT
from tiny_campaign import EVALUATED, NAMES, TRAINING, command, run_without_pictures, tables, write_checkpoint

import inference.maps.network_maps
import run_experiment_evaluation as script
from errors import InputError
from evaluation.campaign.experiments import STRATEGIES, load_experiment
from particle_config import PARTICLES, Particle

pytestmark = pytest.mark.filterwarnings("ignore:.*no hit at any point of the grid")
SEARCH = [
    *("--hp_search_strategy", "per_class", "--plm_gpu_peak_threshs", "0.2", "0.4", "0.6"),
    *("--conf_thresholds", "0.2", "0.4", "--nms_radius_fractions", "0.8"),
]
BOTH_METHODS = ["--postprocessing_method", "peak_local_max_gpu", "cc3d"]
SEARCH_PEAKS = SEARCH[:6]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return tiny_campaign.make(tmp_path_factory.mktemp("campaign"))


@pytest.fixture
def networks_run(monkeypatch):
    """(checkpoint, run) of every map that is made."""
    made = []
    call = inference.maps.network_maps.NetworkMaps._make

    def noted(self, checkpoint, source, *rest):
        made.append((checkpoint, source.run.name))
        return call(self, checkpoint, source, *rest)

    monkeypatch.setattr(inference.maps.network_maps.NetworkMaps, "_make", noted)
    return made


@pytest.fixture(scope="module")
def finished(made):
    """All strategies and two methods."""
    words = command(made, "--evaluation_strategy", *STRATEGIES, *BOTH_METHODS, *SEARCH, experiments=["df1"])
    run_without_pictures(words)
    return words, made / "out"


# --- What is written ----------------------------------------------------------------------------------
def test_tables_and_files_of_every_detector(finished):
    _, folder = finished
    summary = pd.read_csv(folder / "comparison_summary.csv")
    assert summary["rank"].tolist() == [1, 2, 3, 4, 5, 6] and summary["pooled_f4"].is_monotonic_decreasing
    assert summary["f4_low"].isna().all()  # too few tomograms
    assert set(summary["tomograms"]) == {len(EVALUATED)}
    assert len(pd.read_csv(folder / "comparison_summary_by_particle.csv")) == 6 * len(NAMES)
    scores = pd.read_csv(folder / "per_tomogram_scores.csv")
    assert {f"f4_{name}" for name in NAMES} <= set(scores.columns)
    assert len(scores) == len(pd.read_csv(folder / "intermediate_results.csv")) == 2 * 2 * (2 + 2 + 1)
    detectors = list(folder.glob("df1/*/*"))
    assert len(detectors) == 2 * (2 + 2 + 1)
    for detector in detectors:
        assert len(pd.read_csv(detector / "submission.csv")) > 0
        assert {path.name for path in (detector / "picks").iterdir()} == set(EVALUATED)
        assert {"thresholds.json", "search_grid.csv"} <= {p.name for p in (detector / "hyperparameters").iterdir()}


def test_a_report_with_views_and_without(made):
    words = command(
        made, "--use_tta", "--compare_tta", "--comment", "a <comment>", output="report", experiments=["df2"]
    )
    script.main(words)
    report = (made / "report" / "report.html").read_text()
    assert report.count("untuned") == 2, "neither its checkpoints nor a search have hyperparameters"
    assert "a &lt;comment&gt;" in report and "run_experiment_evaluation.py" in report and "d2h" in report
    summary = pd.read_csv(made / "report" / "comparison_summary.csv")
    assert set(summary["views"]) == {"d2h", "none"} and set(summary["folds"]) == {2}
    parameters = json.loads((made / "report" / "run_parameters.json").read_text())["parameters"]
    assert parameters["experiment_names"] == ["df2"] and parameters["use_tta"] is True
    picks = json.loads(next((made / "report").glob("df2/*-d2h/fold_0/picks/TS_7/ribosome.json")).read_text())
    assert all(point["uncertainty"] >= 0 for point in picks["points"])


COMMANDS = """
python run_experiment_evaluation.py \\
    --experiments_dir checkpoints \\
    --experiment_names df1_se_20251008_135757 df2_se_20251009_100000 \\
    --evaluation_strategy best_single \\
    --postprocessing_method watershed \\
    --hp_search_strategy per_class \\
    --use_tta \\
    --comment "comparison_deepfinder_versions"
python run_experiment_evaluation.py \\
    --experiments_dir checkpoints \\
    --experiment_names df1_se_20251008_135757 \\
    --evaluation_strategy kfold_ensemble \\
    --postprocessing_method meanshift \\
    --hp_search_strategy global \\
    --ms_cluster_rad_fracs 0.8 1.0 1.2 \\
    --ms_min_vol_fracs 0.1 0.2 0.3
"""


def test_the_commands_of_the_method_as_written(tmp_path, monkeypatch):
    """Without a flag more: data and checkpoints lie where the defaults say."""
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate(TRAINING):
        tiny_campaign.write_run(Path("phantom"), name, seed)
    tiny_campaign.write_run(Path("phantom/public"), EVALUATED[0], 5)
    for seed, name in enumerate(("df1_se_20251008_135757", "df2_se_20251009_100000")):
        tiny_campaign.write_experiment(Path("checkpoints") / name, Path("phantom").resolve(), seed)
    for line in COMMANDS.replace("\\\n", " ").strip().splitlines():
        run_without_pictures(shlex.split(line)[2:])
    first, second = sorted(Path("results").iterdir(), key=lambda path: "comparison" not in path.name)
    assert first.name.startswith("campaign_comparison_deepfinder_versions_")
    assert len(pd.read_csv(first / "comparison_summary.csv")) == 2
    assert pd.read_csv(second / "comparison_summary.csv")["strategy"].tolist() == ["kfold_ensemble"]


# --- Nothing twice ------------------------------------------------------------------------------------
def test_the_same_command_again_does_nothing(finished, networks_run, capsys):
    words, folder = finished
    before, states = tables(folder), {path: path.stat() for path in folder.rglob("picks/*/*.json")}
    run_without_pictures(words)
    assert tables(folder) == before and not networks_run
    assert all(path.stat().st_mtime_ns == state.st_mtime_ns for path, state in states.items())
    assert capsys.readouterr().out.count("finished before") == len(EVALUATED)


@pytest.mark.parametrize(
    "words",
    [
        ["--postprocessing_method", "watershed", "--fixed_conf_threshold", "0.3"],
        ["--fixed_plm_gpu_peak_thresh", "0.3", "--evaluation_strategy", "kfold_ensemble"],
        ["--training_radius_fraction", "0.4"],
    ],
)
def test_another_way_to_find_particles_runs_no_network(finished, made, networks_run, words, tmp_path):
    run_without_pictures(command(made, *words, output=tmp_path / "other", experiments=["df1"]))
    assert len(pd.read_csv(tmp_path / "other" / "comparison_summary.csv")) == 1 and not networks_run


def test_force_rerun_makes_each_map_once_more(finished, made, networks_run, tmp_path):
    words = command(
        made, "--evaluation_strategy", "best_single", "kfold_ensemble", output=tmp_path, experiments=["df1"]
    )
    run_without_pictures(words)
    before = tables(tmp_path)
    assert not networks_run
    run_without_pictures([*words, "--force_rerun"])
    assert len(networks_run) == len(set(networks_run)) == 2 * len(EVALUATED) and tables(tmp_path) == before


def test_a_network_that_was_trained_anew_is_run_anew(finished, made, networks_run, tmp_path):
    shutil.copytree(made / "checkpoints" / "df1", tmp_path / "checkpoints" / "df1")
    words = [*command(made, output=tmp_path / "out"), "--experiments_dir", str(tmp_path / "checkpoints")]
    words[words.index("--experiment_names") + 1 : words.index("--experiment_names") + 3] = ["df1"]
    run_without_pictures(words)
    assert not networks_run  # a copy is the same
    checkpoint = next((tmp_path / "checkpoints" / "df1").glob("fold_1-best-fscore-*"))
    write_checkpoint(checkpoint, 1, seed=77)
    before = tables(tmp_path / "out")
    with pytest.raises(InputError, match=rf"other networks: df1/{checkpoint.name} has changed since; give another"):
        run_without_pictures(words)
    assert tables(tmp_path / "out") == before and not networks_run
    run_without_pictures([*words, "--output_dir", str(tmp_path / "other")])
    assert set(networks_run) == {(checkpoint, name) for name in EVALUATED}
    fold_0 = {name: content for name, content in tables(tmp_path / "other").items() if "/fold_0/" in name}
    assert fold_0 and fold_0.items() <= before.items()


def test_a_tomogram_that_is_gone_leaves_no_results(made, tmp_path):
    shutil.copytree(made / "public", tmp_path / "public")
    words = command(made, output=tmp_path / "out", experiments=["df1"])
    words[words.index("--data_root") + 1] = str(tmp_path / "public")
    run_without_pictures(words)
    shutil.rmtree(tmp_path / "public" / "train" / "static" / "ExperimentRuns" / EVALUATED[1])
    run_without_pictures(words)
    assert {path.name for path in (tmp_path / "out").rglob("picks/*")} == {EVALUATED[0]}
    assert pd.read_csv(tmp_path / "out" / "comparison_summary.csv")["tomograms"].tolist() == [1]


def test_without_room_for_maps_the_results_are_the_same(finished, made, tmp_path):
    words = command(
        made, "--evaluation_strategy", *STRATEGIES, *BOTH_METHODS, *SEARCH, output="small", experiments=["df1"]
    )
    words[words.index("--cache_dir") + 1] = str(tmp_path / "cache")
    run_without_pictures([*words, "--cache_limit_gb", "0"])
    assert tables(made / "small") == tables(finished[1])
    assert len(list((tmp_path / "cache" / "maps").glob("*.zip"))) == 1


# --- Another particle table ---------------------------------------------------------------------------
def test_networks_of_another_particle_table_are_refused_with_their_maps_kept(finished, made):
    """Radii doubled, rows exchanged, one added, one removed: before anything is done or changed."""
    words, folder = finished
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    first, *others, last = PARTICLES
    for table, text in (
        ([replace(p, radius_angstrom=2 * p.radius_angstrom) for p in PARTICLES], "apo-ferritin (60 A) there"),
        ([replace(last, label=1), *others, replace(first, label=6)], "virus-like-particle (135 A) in particle_config"),
        ([*PARTICLES, Particle("proteasome", 75.0, 1.0, 7, "#808000")], "6 particles there, 7 in particle_config.py"),
        (PARTICLES[:-1], "6 particles there, 5 in particle_config.py"),
    ):
        with (
            mock.patch.object(script, "GIVEN_PARTICLES", tuple(table)),
            pytest.raises(InputError, match=re.escape(text)),
        ):
            run_without_pictures(words)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_other_weights_change_the_score_and_no_picks(finished, made, networks_run, tmp_path):
    """Only the apo-ferritin counts: the score is its F4; the hyperparameters were given."""
    words = command(made, output=tmp_path, experiments=["df1"])
    run_without_pictures(words)
    picks = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("picks/*/*.json")}
    score = pd.read_csv(tmp_path / "comparison_summary.csv")["pooled_f4"][0]
    table = tuple(replace(p, score_weight=float(p.name == "apo-ferritin")) for p in PARTICLES)
    with mock.patch.object(script, "PARTICLES", table):
        run_without_pictures(words)
    by_particle = pd.read_csv(tmp_path / "comparison_summary_by_particle.csv").set_index("particle")["f4"]
    found = pd.read_csv(tmp_path / "comparison_summary.csv")["pooled_f4"][0]
    assert found == pytest.approx(by_particle["apo-ferritin"], abs=1e-6) and found != score
    assert {path: path.stat().st_mtime_ns for path in picks} == picks and not networks_run


# --- No leak ------------------------------------------------------------------------------------------
def test_hyperparameters_are_searched_on_what_a_network_was_not_trained_on(made, networks_run, tmp_path):
    words = command(
        made, "--evaluation_strategy", "kfold_ensemble", *SEARCH_PEAKS, output=tmp_path / "out", experiments=["df2"]
    )
    words[words.index("--cache_dir") + 1] = str(tmp_path / "cache")
    run_without_pictures(words)
    in_training = [(checkpoint.name[:6], run) for checkpoint, run in networks_run if run in TRAINING]
    assert sorted(in_training) == [("fold_0", TRAINING[0]), ("fold_1", TRAINING[1])]
    evaluated = [(checkpoint.name[:6], run) for checkpoint, run in networks_run if run in EVALUATED]
    assert len(evaluated) == 2 * len(EVALUATED)


def test_evaluation_on_training_tomograms_is_called_so(made, tmp_path, capsys):
    words = command(made, output=tmp_path, experiments=["df2"])
    words[words.index("--data_root") + 1] = str(made / "data")
    with pytest.warns(UserWarning, match="df2: networks were trained on runs named TS_1, TS_2: if these are"):
        run_without_pictures(words)
    assert capsys.readouterr().out.count("note: df2: networks were trained on runs named TS_1, TS_2") == 1
    rows = pd.read_csv(tmp_path / "intermediate_results.csv").set_index(["detector", "tomogram"])
    assert rows["trained_on"].to_dict() == {(f"fold_{k}", f"TS_{n}"): int(n == 2 - k) for k in (0, 1) for n in (1, 2)}
    assert rows["held_out"].to_dict() == {(f"fold_{k}", f"TS_{n}"): int(n == 1 + k) for k in (0, 1) for n in (1, 2)}


# --- Killed -------------------------------------------------------------------------------------------
def test_killed_at_random_moments(made, tmp_path):
    """Each time it goes on; what was finished stays untouched; the end is that of a campaign left alone.

    benchmarks.kill does the same a hundred times.
    """
    words = command(made, *SEARCH_PEAKS, "--evaluation_strategy", "best_single", "kfold_ensemble")

    def start(folder):
        here = [*words, "--output_dir", str(folder / "out"), "--cache_dir", str(folder / "cache")]
        process = CONTEXT.Process(target=run_without_pictures, args=(here,))
        process.start()
        return process

    def finish(folder):
        process = start(folder)
        process.join(120)
        assert process.exitcode == 0
        return tables(folder / "out")

    finish(tmp_path / "first")  # the processes' server starts with it
    begin = time.monotonic()
    alone = finish(tmp_path / "alone")
    duration = time.monotonic() - begin
    draw, kills, cycle = random.Random(), 0, 0
    while kills < 4:
        folder, cycle = tmp_path / f"killed_{cycle}", cycle + 1
        kept = {}
        while kills < 4:
            process = start(folder)
            process.join(draw.uniform(0, duration))
            over = process.exitcode is not None
            process.kill()
            process.join()
            assert {path: path.stat().st_ino for path in kept} == kept
            if over:
                break
            kills += 1
            kept = {path: path.stat().st_ino for path in folder.rglob(".finished.json") if whole(path)}
        assert finish(folder) == alone
        assert {path: path.stat().st_ino for path in kept} == kept
        assert not list(folder.rglob("out/**/.*.partial"))


def whole(path):
    """A folder gets its name when all is in it; what a killed process was writing has another one."""
    return not any(part.endswith(".partial") for part in path.parts)


# --- What fails fails alone ---------------------------------------------------------------------------
def fails(words, capsys):
    """What is printed by a campaign that ends with exit code 1."""
    with pytest.raises(SystemExit) as stop:
        run_without_pictures(words)
    assert stop.value.code == 1
    return capsys.readouterr()


def failures(folder):
    table = pd.read_csv(folder / "failures.csv", keep_default_na=False)
    return table, sorted(zip(table["strategy"], table["detector"], table["tomogram"], strict=True))


@pytest.fixture
def broken(made, tmp_path):
    """A copy of the campaign to break, with a function that breaks a tomogram: NaN in it, or the file cut off."""
    for name in ("data", "public", "checkpoints"):
        shutil.copytree(made / name, tmp_path / name)

    def break_tomogram(root, name, how):
        path = tmp_path / root / "train/static/ExperimentRuns" / name / "VoxelSpacing10.000" / "denoised.mrc"
        if how == "cut off":
            path.write_bytes(path.read_bytes()[:2000])
        else:
            with mrcfile.open(path, mode="r+") as file:
                file.data[3, 4, 5] = np.nan

    return tmp_path, break_tomogram


def diverge(checkpoint):
    content = torch.load(checkpoint, weights_only=True)
    for value in content["state_dict"].values():
        if value.is_floating_point():
            value.fill_(torch.nan)
    torch.save(content, checkpoint)


@pytest.mark.parametrize("search", [[], SEARCH_PEAKS], ids=["given", "searched"])
def test_a_diverged_network_fails_what_it_is_part_of(broken, capsys, search):
    root, _ = broken
    diverge(next((root / "checkpoints" / "df2").glob("fold_1-best-fscore-*")))
    printed = fails(command(root, "--evaluation_strategy", "best_single", "kfold_ensemble", *search), capsys)
    summary = pd.read_csv(root / "out" / "comparison_summary.csv")
    assert summary["experiment"].tolist() == ["df1", "df1"] and summary["rank"].tolist() == [1, 2]
    table, rows = failures(root / "out")
    assert set(table["experiment"]) == {"df2"} and table["reason"].str.contains("not numbers; the training dive").all()
    on = [""] if search else EVALUATED
    assert rows == sorted(
        [(s, d, t) for s, d in (("best_single", "fold_1"), ("kfold_ensemble", "ensemble")) for t in on]
    )
    assert "note: df2 best_single peak_local_max_gpu none is not ranked, since" in printed.out
    assert "  1. " in printed.out and "failures.csv; the same command tries them again" in printed.err
    done = pd.read_csv(root / "out" / "intermediate_results.csv")
    assert done["experiment"].value_counts().to_dict() == {"df1": 6, "df2": 2}  # fold 0 of df2 is sound


@pytest.mark.parametrize("how", ["NaN", "cut off"])
def test_an_unreadable_tomogram_is_left_out_for_all_and_tried_again(broken, made, capsys, how):
    root, break_tomogram = broken
    break_tomogram("public", "TS_8", how)
    words = command(root, experiments=["df1"])
    words[words.index("--cache_dir") + 1] = str(made / "cache")
    printed = fails(words, capsys)
    summary = pd.read_csv(root / "out" / "comparison_summary.csv")
    assert summary["tomograms"].tolist() == [1]
    first = pd.read_csv(root / "out" / "per_tomogram_scores.csv")
    assert set(first["tomogram"]) == {"TS_7"}
    assert failures(root / "out")[1] == [("best_single", "fold_0", "TS_8"), ("best_single", "fold_1", "TS_8")]
    assert "note: TS_8 is left out for all configurations: " in printed.out
    shutil.rmtree(root / "public")
    shutil.copytree(made / "public", root / "public")
    run_without_pictures(words)
    assert pd.read_csv(root / "out" / "comparison_summary.csv")["tomograms"].tolist() == [2]
    assert not (root / "out" / "failures.csv").exists()


@pytest.mark.parametrize("how", ["NaN", "cut off"])
def test_a_search_that_cannot_be_done_fails_its_method(broken, capsys, how):
    """The other method is given all of its hyperparameters."""
    root, break_tomogram = broken
    break_tomogram("data", "TS_2", how)
    given = ["--fixed_conf_threshold", "0.2", "--fixed_vol_frac_threshold", "0.1", "--fixed_nms_radius_fraction", "0.8"]
    data = ["--training_data_root", root / "data"]
    words = command(root, *BOTH_METHODS, *given, *SEARCH_PEAKS, *data, experiments=["df1"])
    with pytest.warns(UserWarning, match="searches nothing"):
        printed = fails(words, capsys)
    assert pd.read_csv(root / "out" / "comparison_summary.csv")["method"].tolist() == ["cc3d"]
    assert failures(root / "out")[1] == [("best_single", "fold_1", "")]
    assert "df1 best_single peak_local_max_gpu none is not ranked, since 1 of its results failed" in printed.out


def test_where_nothing_is_complete_nothing_is_ranked(broken, capsys):
    root, _ = broken
    diverge(next((root / "checkpoints" / "df2").glob("fold_1-best-fscore-*")))
    printed = fails(command(root, experiments=["df2"]), capsys)
    assert "there is nothing to rank" in printed.err and not (root / "out" / "comparison_summary.csv").exists()


def test_the_report_says_what_failed(broken):
    root, break_tomogram = broken
    break_tomogram("public", "TS_8", "NaN")
    diverge(next((root / "checkpoints" / "df2").glob("fold_1-best-fscore-*")))
    with pytest.raises(SystemExit):
        script.main(command(root))
    report = (root / "out" / "report.html").read_text()
    assert "TS_8 is left out for all configurations: " in report
    assert "df2 best_single peak_local_max_gpu none is not ranked, since 1 of its results failed" in report


# --- Mistakes -----------------------------------------------------------------------------------------
def test_a_folder_of_another_campaign_is_refused(finished):
    words, folder = finished
    with pytest.raises(InputError, match=r"--plm_gpu_peak_threshs 0\.2 0\.4 0\.6, not 0\.5; give another --output_dir"):
        position = words.index("0.2")
        run_without_pictures([*words[:position], "0.5", *words[position + 3 :]])
    assert json.loads((folder / "run_parameters.json").read_text())["parameters"]["plm_gpu_peak_threshs"][0] == 0.2


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--compare_tta"], "give --use_tta too"),
        (["--tta_merge", "logit"], "--tta_merge has no effect"),  # one network each
        (["--evaluation_strategy", "ensemble_specialists"], "df2 has no specialist for apo-ferritin in fold 0"),
        ([*BOTH_METHODS, "--fixed_ws_cluster_rad_frac", "1"], "no effect on --postprocessing_method"),
        (["--hp_search_strategy", "global", "--training_data_root", "nowhere"], "--training_data_root"),
        (["--tomo_type", "wbp"], "wbp"),
        (["--hp_search_strategy", "global", "--training_data_root", "PUBLIC"], "no run 'TS_1'"),
    ],
)
def test_mistakes_begin_nothing(made, tmp_path, words, text):
    words = [word.replace("PUBLIC", str(made / "public")) for word in words]
    with pytest.raises(InputError, match=text):
        script.main(command(made, *words, output=tmp_path / "new"))
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("words", "merges"),
    [
        (["--evaluation_strategy", "best_single"], False),
        (["--evaluation_strategy", "ensemble_specialists"], False),
        (["--evaluation_strategy", "best_single", "kfold_ensemble"], True),
        (["--use_tta", "--compare_tta"], True),
    ],
)
def test_how_to_merge_matters_where_any_configuration_merges(made, words, merges):
    args = script.build_parser().parse_args(command(made, "--tta_merge", "logit", *words))
    study = script.study_of(load_experiment(args.experiments_dir, "df1", PARTICLES), args, PARTICLES, searched=False)
    assert study.merges is merges and {one.tta_merge for one in study.views} == {"logit"}


def test_without_truth_there_is_nothing_to_compare_by(made, tmp_path):
    shutil.copytree(made / "public" / "train" / "static", tmp_path / "public" / "train" / "static")
    words = command(made)
    words[words.index("--data_root") + 1] = str(tmp_path / "public")
    with pytest.raises(InputError, match=r"no tomogram in .* has picks"):
        script.main(words)


def test_flags_for_one_of_several_methods_are_for_that_one(made):
    args = script.build_parser().parse_args(
        command(made, *BOTH_METHODS, "--fixed_conf_threshold", "0.3", "--fixed_nms_radius_fraction", "0.7")
    )
    peaks, components = (
        script.method_plan(args, method, PARTICLES).given([], {})["ribosome"] for method in BOTH_METHODS[1:]
    )
    assert "conf_threshold" not in peaks and components["conf_threshold"] == 0.3
    assert peaks["nms_radius_fraction"] == components["nms_radius_fraction"] == 0.7


def test_the_default_folder_is_the_same_for_the_same_flags(made):
    def folder(*words):
        words = ["--experiment_names", "df1", *words]
        return script.default_output_dir(script.build_parser().parse_args(words))

    assert folder("--comment", "x") == folder("--comment", "x", "--force_rerun")
    assert folder("--comment", "x").name.startswith("campaign_x_") and folder().name.startswith("campaign_")
    assert folder() != folder("--use_tta")
