"""Every script from the command line on a tiny phantom, and every mistake: one line, exit code 2, nothing written."""

import json
import shutil
from pathlib import Path
from unittest import mock

import numpy as np
import pandas as pd
import pytest
import torch
import zarr
from script_process import run_script_process

import eval_public_czi
import prepare_fullpublic_eval_annotations
import prepare_mask_czi
import train
from data.czi import find_runs
from data.picks import PICK_COLUMNS, read_picks
from docs.flags import MODULES
from errors import InputError
from evaluation.arguments import output_dir
from inference.maps.network_maps import NetworkMaps
from inference.predictor import Predictor
from particle_config import PARTICLES

# On the data of their training, where small phantoms do not have every particle; two tests are about that.
pytestmark = [
    pytest.mark.filterwarnings("ignore:networks were trained on"),
    pytest.mark.filterwarnings("ignore:no run has picks of"),
]
ROOT = Path(__file__).parents[1]
NAMES = [particle.name for particle in PARTICLES]
QUICK = ["--epochs", "1", "--steps_per_epoch", "2", "--batch_size", "2", "--patch_size", "32", "32", "32"]


def run(script, *words):
    """The script as a user starts it."""
    return run_script_process(ROOT / script, *words)


def fails_cleanly(done, *texts):
    """One line of error that holds all the texts, exit code 2, no traceback."""
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.returncode == 2 and len(errors) == 1 and "Traceback" not in done.stderr, done.stderr
    for text in texts:
        assert text in errors[0]


@pytest.fixture(scope="session")
def experiment(phantom, tmp_path_factory):
    """One fold trained for a moment."""
    folder = tmp_path_factory.mktemp("checkpoints")
    train.main(["--data_root", str(phantom), "--output_dir", str(folder), "--fold", "0", *QUICK, "--comment", "tiny"])
    return next(folder.iterdir())


@pytest.fixture(scope="session")
def ensemble(phantom, tmp_path_factory):
    """Both folds, trained for a moment."""
    folder = tmp_path_factory.mktemp("ensemble")
    train.main(["--data_root", str(phantom), "--output_dir", str(folder), *QUICK])
    return next(folder.iterdir())


@pytest.fixture
def training_tree(phantom, tmp_path):
    shutil.copytree(phantom / "train", tmp_path / "data" / "train")
    return tmp_path / "data"


@pytest.fixture
def public_tree(phantom, tmp_path):
    shutil.copytree(phantom / "public", tmp_path / "public")
    return tmp_path / "public"


def first_run(root):
    return find_runs(root, tomo_type="denoised")[0]


def rewrite(path, change):
    """Change the voxels of a tomogram's first level."""
    level = zarr.open_group(path, mode="r+")["0"]
    level[:] = change(level[:])


# --- The way through ----------------------------------------------------------------------------------
@pytest.mark.pictures
def test_masks_annotations_training_evaluation(training_tree, public_tree, tmp_path, capsys):
    prepare_mask_czi.main(["--data_root", str(training_tree), "--save_plots"])
    masks = sorted((training_tree / "mask" / "segmentations_0.5").glob("*.npy"))
    assert len(masks) == 2 and set(np.unique(np.load(masks[0]))) <= set(range(7))
    prepare_fullpublic_eval_annotations.main(["--data_dir", str(public_tree)])

    train.main(["--data_root", str(training_tree), "--output_dir", str(tmp_path / "checkpoints"), *QUICK])
    experiment = next((tmp_path / "checkpoints").iterdir())
    assert len(list(experiment.glob("fold_*-best-fscore-*.ckpt"))) == 2  # no --fold: all of them
    assert set(json.loads((experiment / "thresholds.json").read_text())) == {"fold_0", "fold_1"}

    out = tmp_path / "results"
    eval_public_czi.main(
        ["--model_path", str(experiment), "--data_root", str(public_tree), "--output_dir", str(out), "--use_tta"]
    )
    printed = capsys.readouterr().out
    assert "2 networks" in printed and "weighted F4" in printed and str(out / "submission.csv") in printed
    run_name = first_run(public_tree).name
    table = pd.read_csv(out / "submission.csv")
    assert list(table.columns) == ["id", "experiment", "particle_type", "x", "y", "z", *PICK_COLUMNS]
    assert table["uncertainty"].between(0, 0.5).all()
    assert set(table["experiment"]) <= {run_name}
    picks = {name: read_picks(out / "picks" / run_name / f"{name}.json") for name in NAMES}
    assert sum(len(one.coordinates_zyx_angstrom) for one in picks.values()) == len(table)
    scores = json.loads((out / "scores.json").read_text())
    assert scores["scored_runs"] == [run_name] and 0 <= scores["score"]["weighted_f4"] <= 1
    assert (out / "overlays" / f"{run_name}.png").stat().st_size > 10_000


def test_the_commands_of_the_method_as_written(training_tree, tmp_path, monkeypatch):
    """A ResNet with advanced augmentation and a hybrid loss; chosen folds with SWA. Sizes shrunk."""
    monkeypatch.chdir(tmp_path)
    shrunk = f"--data_root {training_tree} --patch_size 32 64 64 --epochs 1 --steps_per_epoch 1"
    train.main(
        f"{shrunk} --output_dir one --encoder_name resnet50 --fold 0 --comment my_first_resnet50_run --use_ema "
        "--augmentation_level advanced --loss_type ce_tversky --batch_size 1".split()
    )
    [first] = Path("one").iterdir()
    assert first.name.startswith("resnet50_my_first_resnet50_run_")
    train.main(
        f"{shrunk} --output_dir two --encoder_name deepfinder2 --run_specific_folds 0 1 --use_swa --batch_size 2 "
        "--comment deepfinder2_kfold_experiment".split()
    )
    [second] = Path("two").iterdir()
    assert set(json.loads((second / "thresholds.json").read_text())) == {"fold_0", "fold_1"}


def test_a_run_resumed_on_the_command_line(training_tree, tmp_path, capsys):
    """It goes on in its own folder, then trains the folds that are missing."""
    base = ["--data_root", str(training_tree), "--output_dir", str(tmp_path / "out"), *QUICK]
    train.main([*base, "--fold", "0"])
    [experiment] = (tmp_path / "out").iterdir()
    last = experiment / "fold_0-last.ckpt"
    arguments = json.loads((experiment / "args.json").read_text())
    earlier = {**arguments, "disable_cache": False, "max_memory_gb": 8.0}  # flags of an earlier version
    (experiment / "args.json").write_text(json.dumps(earlier))
    longer = [*base, "--resume_from_checkpoint", str(last)]
    with pytest.raises(InputError, match=r"weights alone; resume from .*fold_0-last.ckpt"):
        train.main([*base, "--resume_from_checkpoint", str(next(experiment.glob("*-best-fscore-*.ckpt")))])
    with pytest.raises(InputError, match="2 steps behind it"):
        train.main(longer)
    with pytest.raises(InputError, match="trained with --norm_type batch"):
        train.main([*longer, "--norm_type", "instance", "--epochs", "2"])
    with pytest.raises(InputError, match="--steps_per_epoch 2, not 1"):
        train.main([*longer, "--steps_per_epoch", "1", "--epochs", "9"])
    with pytest.raises(InputError, match="not among those to run"):
        train.main([*longer, "--fold", "1", "--epochs", "2"])
    train.main([*longer, "--epochs", "2"])
    assert [path.name for path in (tmp_path / "out").iterdir()] == [experiment.name]
    assert len(pd.read_csv(experiment / "fold_0" / "metrics.csv")) == 2
    assert set(json.loads((experiment / "thresholds.json").read_text())) == {"fold_0", "fold_1"}


def test_a_run_stopped_in_its_last_validation_can_be_finished(training_tree, tmp_path, monkeypatch):
    def stop(*_):
        raise RuntimeError

    words = ["--data_root", str(training_tree), "--output_dir", str(tmp_path / "out"), "--fold", "0", *QUICK]
    with monkeypatch.context() as patch, pytest.raises(RuntimeError):
        patch.setattr("training.module.DetectionModule.validation_step", stop)
        train.main(words)
    [experiment] = (tmp_path / "out").iterdir()
    train.main([*words, "--resume_from_checkpoint", str(experiment / "fold_0-last.ckpt")])
    assert (experiment / "thresholds.json").is_file()


@pytest.mark.parametrize("flags", [["--output_stride", "2", "--single_pixel_mask"], ["--disable_global_norm"]])
def test_other_kinds_of_network_from_training_to_picks(training_tree, tmp_path, flags):
    train.main(["--data_root", str(training_tree), "--output_dir", str(tmp_path), "--fold", "0", *QUICK, *flags])
    [experiment] = tmp_path.glob("deepfinder2_*")
    results = tmp_path / "results"
    eval_public_czi.main(
        ["--model_path", str(experiment), "--data_root", str(training_tree), "--output_dir", str(results)]
    )
    assert json.loads((results / "scores.json").read_text())["score"]["weighted_f4"] >= 0


def test_a_checkpoint_alone_cc3d_and_no_truth(experiment, phantom, tmp_path, capsys):
    checkpoint = next(experiment.glob("*-best-fscore-*.ckpt"))
    with pytest.warns(UserWarning, match="prepare_fullpublic_eval_annotations"):
        eval_public_czi.main(
            f"--model_path {checkpoint} --data_root {phantom / 'public'} --output_dir {tmp_path} "
            "--postprocessing_method cc3d --fixed_conf_threshold 0.1 --precision fp32".split()
        )
    assert "no picks to compare with" in capsys.readouterr().out
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert scores["score"] is None and scores["scored_runs"] == []
    assert [run_["weighted_f4"] for run_ in scores["runs"].values()] == [None]


def test_the_gallery_marks_what_the_score_counts(experiment, training_tree, tmp_path):
    """False picks by the score are those with a cross; hits are told from them by their place."""
    with mock.patch.object(eval_public_czi, "write_gallery") as gallery:
        eval_public_czi.main(
            f"--model_path {experiment} --data_root {training_tree} --output_dir {tmp_path} "
            "--fixed_plm_gpu_peak_thresh 0.05".split()
        )
    [call] = gallery.call_args_list
    rows = json.loads((tmp_path / "scores.json").read_text())["score"]["per_particle"]
    assert call.kwargs["hits"].count(False) == sum(row["false_positives"] for row in rows) > 0
    assert len(call.kwargs["hits"]) == len(call.args[2]) == len(pd.read_csv(tmp_path / "submission.csv"))
    assert sorted(call.kwargs["overlays"]) == sorted(one.name for one in call.args[1])


def test_a_run_whose_picks_are_empty_is_not_called_scored(experiment, training_tree, tmp_path, capsys):
    """Its picks are in no score; without any other run there is none."""
    first, second = find_runs(training_tree, tomo_type="denoised")
    words = (
        f"--model_path {experiment} --data_root {training_tree} --cache_dir {tmp_path / 'cache'} --output_dir".split()
    )
    for number, (run_, scored) in enumerate(((second, [first.name]), (first, []))):
        for path in run_.picks_dir.glob("*.json"):
            path.write_text(json.dumps({**json.loads(path.read_text()), "points": []}))
        eval_public_czi.main([*words, str(tmp_path / str(number))])
        scores = json.loads((tmp_path / str(number) / "scores.json").read_text())
        assert scores["scored_runs"] == scored and (scores["score"] is None) == (not scored)
        printed = capsys.readouterr().out
        assert (f"scored on the 1 runs that have picks: {first.name}" in printed) == bool(scored)
    assert "no picks to compare with" in printed


def test_training_layout_and_a_choice_of_runs(experiment, phantom, tmp_path, capsys):
    """The network of fold 0 was trained on the second run, and chosen on the first."""
    held_out, name = (run_.name for run_ in find_runs(phantom, tomo_type="denoised"))
    common = f"--model_path {experiment} --data_root {phantom} --sw_batch_size 2 --blend_mode constant"
    with pytest.warns(UserWarning, match=f"networks were trained on runs named {name}: if these are the same"):
        eval_public_czi.main(f"{common} --output_dir {tmp_path / 'one'} --limit_tomos_by_id {name}".split())
    scores = json.loads((tmp_path / "one" / "scores.json").read_text())
    assert scores["scored_runs"] == [name] == list(scores["runs"])
    use = {"networks": 1, "trained_on": 1, "held_out": 0, "searched_on": False}
    picks = len(pd.read_csv(tmp_path / "one" / "submission.csv"))
    assert scores["runs"][name] == {"picks": picks, "weighted_f4": scores["score"]["mean_over_runs_f4"], **use}
    assert f"note: networks were trained on runs named {name}" in capsys.readouterr().out
    eval_public_czi.main(f"{common} --output_dir {tmp_path / 'other'} --limit_tomos_by_id {held_out}".split())
    assert f"note: runs named {held_out} were held out in training" in capsys.readouterr().out
    run_ = json.loads((tmp_path / "other" / "scores.json").read_text())["runs"][held_out]
    assert (run_["trained_on"], run_["held_out"]) == (0, 1)


@pytest.mark.parametrize(
    ("flags", "views", "window"),
    [
        ("--inference_window 32 48 64 --sw_overlap 0.5 --max_memory_gb 20", 1, (32, 48, 64)),
        ("--inference_window train --tta_group etfinder7 --tilt_axis z --tta_merge logit", 7, (32, 32, 32)),
        ("--use_tta --tta_group d2 --sw_batch_size 3", 4, (32, 64, 64)),
    ],
)
@pytest.mark.filterwarnings("ignore:--tilt_axis z, but the networks were trained with y")
def test_windows_and_views_from_the_command_line(experiment, phantom, tmp_path, flags, views, window, monkeypatch):
    """What is asked for is what the predictor does; picks are uncertain where there is more than one view."""
    seen = []

    def spy(self, volume, *arguments):
        seen.append((len(self.views), self.window_for(volume.shape)))
        return original(self, volume, *arguments)

    original = Predictor.__call__
    monkeypatch.setattr(Predictor, "__call__", spy)
    checkpoint = next(experiment.glob("*-best-fscore-*.ckpt"))
    eval_public_czi.main(
        f"--model_path {checkpoint} --data_root {phantom} --output_dir {tmp_path} "
        f"--fixed_plm_gpu_peak_thresh 0.01 {flags}".split()
    )
    assert seen == [(views, window)] * 2
    table = pd.read_csv(tmp_path / "submission.csv")
    assert len(table) and (table["uncertainty"].notna() == (views > 1)).all()
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert scores["windows_zyx"] == {name: [list(window)] for name in set(table["experiment"])}
    settings = scores["settings"]["inference"]
    assert ("train" if "train" in flags else "auto" if views == 4 else list(window)) == settings["window"]


def test_how_to_merge_one_view_of_one_network_is_refused(experiment, phantom, tmp_path):
    words = f"--model_path {experiment} --data_root {phantom} --output_dir {tmp_path / 'out'} --tta_merge logit".split()
    with pytest.raises(InputError, match="--tta_merge has no effect"):
        eval_public_czi.main(words)
    assert not (tmp_path / "out").exists()


# --- Going on ----------------------------------------------------------------------------------------
def contents(folder):
    paths = [path for path in folder.rglob("*.json") if path.name != "run_parameters.json"]
    return {path.relative_to(folder): path.read_bytes() for path in paths}


def test_an_evaluation_goes_on_where_it_stopped(experiment, phantom, tmp_path, networks_run, monkeypatch, capsys):
    """Stopped at the second tomogram: the first stays; other thresholds run no network, --force_rerun runs all."""
    words = f"--model_path {experiment} --data_root {phantom} --output_dir {tmp_path / 'out'}"
    words = f"{words} --cache_dir {tmp_path / 'cache'} --precision fp32".split()
    names = [run_.name for run_ in find_runs(phantom, tomo_type="denoised")]
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        original = NetworkMaps.combined

        def stopped(self, ensemble, source, *rest):
            if source.name == names[1]:
                raise KeyboardInterrupt
            return original(self, ensemble, source, *rest)

        patch.setattr(NetworkMaps, "combined", stopped)
        eval_public_czi.main(words)
    first = tmp_path / "out" / "picks" / names[0] / "ribosome.json"
    before = first.stat().st_ino
    eval_public_czi.main(words)
    assert networks_run == names and first.stat().st_ino == before
    assert "finished before" in capsys.readouterr().out
    finished = contents(tmp_path / "out")
    eval_public_czi.main(words)
    assert networks_run == names and contents(tmp_path / "out") == finished
    assert len(json.loads((tmp_path / "out" / "scores.json").read_text())["windows_zyx"]) == len(names)
    others = [*words, "--fixed_plm_gpu_peak_thresh", "0.01"]
    with pytest.raises(InputError, match=r"--fixed_plm_gpu_peak_thresh not given, not 0\.01; give"):
        eval_public_czi.main(others)
    with pytest.raises(InputError, match="--limit_tomos_by_id not given, not"):
        eval_public_czi.main([*words, "--limit_tomos_by_id", names[0]])
    assert contents(tmp_path / "out") == finished
    eval_public_czi.main([*others, "--output_dir", str(tmp_path / "other")])
    assert networks_run == names
    eval_public_czi.main([*words, "--force_rerun"])
    assert networks_run == 2 * names and contents(tmp_path / "out") == finished


def test_results_of_a_run_that_is_gone_or_of_a_search_do_not_stay(ensemble, training_tree, tmp_path, capsys):
    first, second = find_runs(training_tree, tomo_type="denoised")
    out, cache = tmp_path / "out", tmp_path / "cache"
    words = f"--model_path {ensemble} --data_root {training_tree} --output_dir {out} --cache_dir {cache}".split()
    eval_public_czi.main(words)
    shutil.rmtree(second.tomogram_path("denoised").parents[1])
    eval_public_czi.main(words)
    assert f"removed the results of {second.name}" in capsys.readouterr().out
    assert [path.name for path in (out / "picks").iterdir()] == [first.name]
    assert [path.name for path in (out / "overlays").iterdir()] == [f"{first.name}.png"]
    (out / "thresholds.json").write_text("{}")  # as of a search
    eval_public_czi.main([*words, "--use_tta", "--force_rerun"])
    assert not (out / "thresholds.json").exists() and (out / "scores.json").is_file()


def test_stopped_in_doing_it_anew_leaves_no_score_of_before(experiment, training_tree, tmp_path, monkeypatch):
    """The truth of the first run was corrected."""
    words = f"--model_path {experiment} --data_root {training_tree} --output_dir {tmp_path / 'out'}".split()
    words += ["--cache_dir", str(tmp_path / "cache")]
    eval_public_czi.main(words)
    path = find_runs(training_tree, tomo_type="denoised")[0].picks_dir / "ribosome.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "points": content["points"][1:]}))

    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("evaluation.runs.score_of", stop)
        eval_public_czi.main(words)
    assert not (tmp_path / "out" / "scores.json").exists() and not (tmp_path / "out" / "submission.csv").exists()
    eval_public_czi.main(words)
    assert (tmp_path / "out" / "scores.json").is_file()


@pytest.mark.parametrize("broken", ["voxels", "header"])
def test_a_tomogram_that_cannot_be_read_does_not_end_the_others(experiment, training_tree, tmp_path, broken, capsys):
    bad, good = find_runs(training_tree, tomo_type="denoised")
    level = bad.tomogram_path("denoised") / "0"
    wanted = ".zarray" if broken == "header" else next(p.name for p in level.rglob("*") if p.name[0] != ".")
    next(level.rglob(wanted)).write_bytes(b"{")
    words = f"--model_path {experiment} --data_root {training_tree} --output_dir {tmp_path / 'out'}".split()
    with pytest.raises(SystemExit) as stop:
        eval_public_czi.main([*words, "--cache_dir", str(tmp_path / "cache")])
    assert stop.value.code == 1 and f"failed    {bad.name}: " in capsys.readouterr().err
    scores = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert scores["scored_runs"] == [good.name] and list(scores["failed_runs"]) == [bad.name]
    assert set(pd.read_csv(tmp_path / "out" / "submission.csv")["experiment"]) <= {good.name}


def test_truth_that_cannot_be_scored_by_is_found_before_networks_run(experiment, training_tree, tmp_path, networks_run):
    """The same point in two classes."""
    picks = find_runs(training_tree, tomo_type="denoised")[1].picks_dir
    content = json.loads((picks / "ribosome.json").read_text())
    content["pickable_object_name"] = "thyroglobulin"
    (picks / "thyroglobulin.json").write_text(json.dumps(content))
    words = f"--model_path {experiment} --data_root {training_tree} --output_dir {tmp_path / 'out'}".split()
    with pytest.raises(InputError, match="duplicate reference point"):
        eval_public_czi.main([*words, "--cache_dir", str(tmp_path / "cache")])
    assert networks_run == [] and not (tmp_path / "out").exists()


# --- Hyperparameter search ----------------------------------------------------------------------------
@pytest.mark.filterwarnings("ignore:.*no hit at any point")  # networks that were trained for a moment
@pytest.mark.parametrize(
    ("strategy", "flags"),
    [
        ("per_class", ["--plm_gpu_peak_threshs", "0.001", "0.01", "0.05", "--nms_radius_fractions", "0.5", "0.8"]),
        (
            "global",
            [
                "--postprocessing_method",
                "cc3d",
                "--conf_thresholds",
                "0.05",
                "0.1",
                "--vol_frac_thresholds",
                "0.1",
                "0.5",
                "--fixed_nms_radius_fraction",
                "0.8",
            ],
        ),
    ],
)
@pytest.mark.pictures
def test_a_search_finds_what_a_later_evaluation_uses(ensemble, phantom, tmp_path, capsys, strategy, flags):
    """Every tomogram is predicted by the one network that held it out; the picks of the two commands are the same."""
    method = flags[:2] if flags[0] == "--postprocessing_method" else []
    tuned, again = tmp_path / "tuned", tmp_path / "again"
    common = ["--data_root", str(phantom), "--precision", "fp32"]
    eval_public_czi.main(
        ["--model_path", str(ensemble), "--output_dir", str(tuned), *common, "--hp_search_strategy", strategy, *flags]
    )
    printed = capsys.readouterr().out
    assert "very tomograms" in printed and "2 networks" in printed
    entry = json.loads((tuned / "thresholds.json").read_text())["search"]
    held_out = [run_.name for run_ in find_runs(phantom, tomo_type="denoised")]
    assert entry["strategy"] == strategy and entry["runs"] == held_out
    uses = json.loads((tuned / "scores.json").read_text())["runs"]
    assert all(one["searched_on"] and one["networks"] == one["held_out"] == 1 for one in uses.values()) and uses
    assert entry["f4"] == json.loads((tuned / "scores.json").read_text())["score"]["weighted_f4"]
    grid = pd.read_csv(tuned / "search_grid.csv")
    assert set(grid["particle"]) == {*NAMES, "all"} and grid["f4_pooled"].between(0, 1).all()
    assert (tuned / "search_curves.png").stat().st_size > 20_000
    found = pd.read_csv(tuned / "submission.csv")
    for fold, name in enumerate(held_out):
        [checkpoint] = ensemble.glob(f"fold_{fold}-best-fscore-*.ckpt")
        later = ["--per_class_hp_path", str(tuned / "thresholds.json"), "--limit_tomos_by_id", name, *method]
        out = again / str(fold)
        eval_public_czi.main(["--model_path", str(checkpoint), "--output_dir", str(out), *common, *later])
        expected = pd.read_csv(out / "submission.csv").drop(columns="id")
        rows = found[found["experiment"] == name].drop(columns="id").reset_index(drop=True)
        pd.testing.assert_frame_equal(rows, expected, check_dtype=False)


def test_searches_that_cannot_be_honest(experiment, phantom, tmp_path):
    """One network: it was trained on the second run, and nobody knows the truth of the public one."""
    names = [run_.name for run_ in find_runs(phantom, tomo_type="denoised")]
    words = f"--model_path {experiment} --output_dir {tmp_path} --hp_search_strategy global"
    with pytest.raises(InputError, match=rf"{names[1]}.*every network .*\({names[0]}\)"):
        eval_public_czi.main(f"{words} --data_root {phantom} --limit_tomos_by_id {names[1]}".split())
    with pytest.warns(UserWarning, match="prepare_fullpublic"), pytest.raises(InputError, match=r"only .* with picks"):
        eval_public_czi.main(f"{words} --data_root {phantom / 'public'}".split())
    with pytest.raises(InputError, match="--conf_thresholds"):
        eval_public_czi.main(f"--model_path {experiment} --data_root {phantom} --conf_thresholds 0.1".split())
    assert not list(tmp_path.iterdir())


def test_the_default_output_folder_bears_the_experiments_name(experiment):
    def folder(*words):
        return output_dir(eval_public_czi.build_parser().parse_args(["--model_path", "x", *words]), experiment.name)

    assert folder().parent.name == "results" and folder().name.startswith(experiment.name)
    assert folder() == folder("--force_rerun") != folder("--use_tta")  # the same for the same flags


@pytest.mark.parametrize("script", [name for name in MODULES if "." not in name])
def test_help_shows_the_commands(script):
    done = run(f"{script}.py", "--help")
    assert done.returncode == 0 and f"python {script}.py" in done.stdout


def test_a_new_particle_is_one_new_row(tmp_path):
    """A copy of the program with a row more in its table makes, learns and finds the new particle."""
    copy = tmp_path / "etfinder"
    for path in [*ROOT.glob("*.py"), *ROOT.glob("[a-z]*/**/*.py"), *ROOT.glob("evaluation/report/*.*")]:
        if path.relative_to(ROOT).parts[0] not in {"tests", "benchmarks"}:
            (copy / path.relative_to(ROOT)).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, copy / path.relative_to(ROOT))
    table = copy / "particle_config.py"
    row = '    Particle("proteasome", 75.0, 1.0, 7, "#808000"),\n)\n\n\ndef normalised_name'
    table.write_text(table.read_text().replace(")\n\n\ndef normalised_name", row, 1))

    def step(script, *words):
        done = run_script_process(script, *words, folder=copy)
        assert done.returncode == 0, done.stderr

    step("make_phantom_dataset.py", "--output_dir", "d", "--num_train", 2, "--num_eval", 1, "--shape", 32, 64, 64)
    step("prepare_mask_czi.py", "--data_root", "d")
    step("prepare_fullpublic_eval_annotations.py", "--data_dir", "d/public")
    step("train.py", "--data_root", "d", "--fold", 0, *QUICK)
    experiment = next((copy / "checkpoints").iterdir())
    step("eval_public_czi.py", "--model_path", experiment, "--data_root", "d/public", "--output_dir", "r")
    assert any(7 in np.load(path) for path in (copy / "d" / "mask").rglob("*.npy"))
    assert list(experiment.glob("fold_0-best-proteasome-*.ckpt"))
    names = [row["particle"] for row in json.loads((copy / "r" / "scores.json").read_text())["score"]["per_particle"]]
    assert names == [*NAMES, "proteasome"]


# --- Mistakes -----------------------------------------------------------------------------------------
def test_missing_data_root(experiment, tmp_path):
    missing = tmp_path / "nowhere"
    fails_cleanly(run("train.py", "--data_root", missing, "--output_dir", tmp_path / "c"), "nowhere")
    fails_cleanly(run("prepare_mask_czi.py", "--data_root", missing), "nowhere")
    fails_cleanly(run("prepare_fullpublic_eval_annotations.py", "--data_dir", missing), "nowhere")
    fails_cleanly(run("eval_public_czi.py", "--model_path", experiment, "--data_root", missing), "nowhere")
    assert not list(tmp_path.iterdir())


def test_run_without_picks(training_tree, tmp_path):
    run_ = first_run(training_tree)
    shutil.rmtree(run_.picks_dir)
    done = run("train.py", "--data_root", training_tree, "--output_dir", tmp_path / "c", *QUICK)
    fails_cleanly(done, run_.name, "no picks")


def test_unknown_particle(training_tree):
    path = first_run(training_tree).picks_dir / "ribosome.json"
    path.write_text(path.read_text().replace('"ribosome"', '"prion"'))
    fails_cleanly(run("prepare_mask_czi.py", "--data_root", training_tree), "prion", "particle_config.py")
    assert not (training_tree / "mask").exists() or not list((training_tree / "mask").rglob("*.npy"))


def test_corrupt_zarr_chunk_and_nothing_half_written(experiment, public_tree, tmp_path):
    level = first_run(public_tree).tomogram_path("denoised") / "0"
    chunk = next(path for path in sorted(level.rglob("*")) if path.is_file() and not path.name.startswith("."))
    chunk.write_bytes(chunk.read_bytes()[:50])
    out = tmp_path / "results"
    done = run("eval_public_czi.py", "--model_path", experiment, "--data_root", public_tree, "--output_dir", out)
    fails_cleanly(done, chunk.name)
    assert not (out / "submission.csv").exists() and not (out / "scores.json").exists()


def test_corrupt_json_line_is_named_with_its_number(public_tree):
    path = first_run(public_tree).annotation_paths[0]
    path.write_text(path.read_text().rstrip() + '\n{"type": "point", "location": {"x": 1, ')
    number = len(path.read_text().splitlines())
    done = run("prepare_fullpublic_eval_annotations.py", "--data_dir", public_tree)
    fails_cleanly(done, path.name, f"line {number}")


def test_nan_volume(experiment, public_tree, tmp_path):
    def with_nan(voxels):
        voxels[3, 4, 5] = np.nan
        return voxels

    rewrite(first_run(public_tree).tomogram_path("denoised"), with_nan)
    done = run(
        "eval_public_czi.py", "--model_path", experiment, "--data_root", public_tree, "--output_dir", tmp_path / "r"
    )
    fails_cleanly(done, "NaN", "3, 4, 5")


def test_unknown_voxel_size(phantom, tmp_path):
    """A bare array in a folder that names no spacing."""
    source = first_run(phantom)
    base = tmp_path / "data" / "train"
    folder = base / "static" / "ExperimentRuns" / "TS_1" / "VoxelSpacing"
    folder.mkdir(parents=True)
    shutil.copytree(source.tomogram_path("denoised") / "0", folder / "denoised.zarr")
    shutil.copytree(source.picks_dir, base / "overlay" / "ExperimentRuns" / "TS_1" / "Picks")
    command = ["prepare_mask_czi.py", "--data_root", tmp_path / "data"]
    fails_cleanly(run(*command), "voxel", "--voxel_spacing")
    assert run(*command, "--voxel_spacing", "10.012").returncode == 0


def test_checkpoint_of_another_particle_table(experiment, phantom, tmp_path):
    checkpoint = torch.load(next(experiment.glob("*-best-fscore-*.ckpt")), weights_only=True)
    checkpoint["etfinder"]["particles"][3]["name"] = "proteasome"
    torch.save(checkpoint, tmp_path / "other.ckpt")
    out = ("--output_dir", tmp_path / "out")
    done = run("eval_public_czi.py", "--model_path", tmp_path / "other.ckpt", "--data_root", phantom, *out)
    assert done.returncode == 0, done.stderr
    assert "picks of 'ribosome' are not scored" in done.stderr and "ribosome.json" in done.stderr
    assert "no run has picks of proteasome" in done.stderr
    score = json.loads((tmp_path / "out" / "scores.json").read_text())["score"]
    assert {row["particle"] for row in score["per_particle"]} == ({*NAMES} - {"ribosome"}) | {"proteasome"}


def test_tomogram_of_another_voxel_size(experiment, phantom):
    done = run("eval_public_czi.py", "--model_path", experiment, "--data_root", phantom, "--voxel_spacing", "5")
    fails_cleanly(done, "5 A per voxel", "trained at 10.012")


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--fold", "7"], "folds 0 to 1"),
        (["--patch_size", "30", "32", "32"], "nearest that does: 32 32 32"),
        (["--patch_size", "64", "64", "64"], "does not fit"),
        (["--class_loss_weights", "1", "2"], "needs 7 values"),
        (["--mixup_prob", "0.5"], "no effect without --use_mixup"),
        (["--norm_percentiles", "99", "1"], "percentiles"),
        (["--training_tomo_types", "isonetcorrected"], "isonetcorrected"),
        (["--precision", "fp16", "--device", "cpu"], "bf16"),
    ],
)
def test_values_that_cannot_be_trained_with(phantom, tmp_path, words, text):
    with pytest.raises(InputError, match=text):
        train.main(["--data_root", str(phantom), "--output_dir", str(tmp_path), "--fold", "0", *QUICK, *words])
    assert not list(tmp_path.iterdir())  # an experiment begins when its input is known to be good


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--radius_fraction", "0"], "argument --radius_fraction: must be a number from 0.01 to 1, got '0'"),
        (["--epochs", "0"], "argument --epochs: must be a whole number from 1"),
        (["--seed", "-1"], "argument --seed: must be a whole number from 0"),
        (["--use_mixup", "--mixup_prob", "2"], "must be a number from 0.001 to 1, got '2'"),
    ],
)
def test_values_that_the_parser_refuses(words, text, capsys):
    with pytest.raises(SystemExit) as stop:
        train.main(words)
    assert stop.value.code == 2 and text in capsys.readouterr().err


def test_flags_are_not_abbreviated(capsys):
    with pytest.raises(SystemExit) as stop:
        train.main(["--epoch", "3"])
    assert stop.value.code == 2 and "--epoch" in capsys.readouterr().err
