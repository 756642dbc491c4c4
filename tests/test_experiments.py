"""Experiments on disk, and what each strategy makes of them: which networks, and what they may be tuned on."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import tiny_campaign
import torch

import train
from errors import InputError
from evaluation.campaign.experiments import STRATEGIES, load_experiment
from inference.checkpoints import KEY, Description
from inference.ensembles import mean_of_maps, specialists_map
from particle_config import PARTICLES, table_as_dicts
from run_experiment_evaluation import training_root
from training.arguments import resolved_arguments, volume_source

NAMES = [particle.name for particle in PARTICLES]


def write_checkpoint(path, fold, **changes):
    description = Description(
        architecture={"encoder_name": "deepfinder2"},
        particles=PARTICLES,
        patch_size_zyx=(32, 32, 32),
        norm_percentiles=(0.5, 99.5),
        radius_fraction=0.5,
        tomo_types=("denoised",),
        voxel_spacing_angstrom=10.0,
        fold=fold,
        validation_runs=(f"TS_{fold}",),
        hyperparameters={},
        f4=0.5,
    )
    torch.save({"state_dict": {}, KEY: {**description.as_plain(), **changes}}, path)


@pytest.fixture
def folder(tmp_path):
    """Folds 0 and 2 of an experiment, with all specialists."""
    folder = tmp_path / "checkpoints" / "df1"
    for fold in (0, 2):
        (folder / f"fold_{fold}").mkdir(parents=True)
        (folder / f"fold_{fold}" / "result.json").write_text("{}")
        for what in ("fscore", *NAMES):
            write_checkpoint(folder / f"fold_{fold}-best-{what}-epoch=3-f4=0.512.ckpt", fold)
        write_checkpoint(folder / f"fold_{fold}-last.ckpt", fold)
    (folder / "args.json").write_text(json.dumps({"data_root": "phantom"}))
    return folder


def load(folder):
    return load_experiment(folder.parent, folder.name, PARTICLES)


def detectors(folder, strategy):
    return STRATEGIES[strategy](load(folder), PARTICLES)


def test_an_experiment_is_what_its_files_say(folder):
    experiment = load(folder)
    assert [(fold.index, fold.held_out_runs, fold.name) for fold in experiment.folds] == [
        (0, ("TS_0",), "fold_0"),
        (2, ("TS_2",), "fold_2"),
    ]
    assert set(experiment.folds[0].specialists) == set(NAMES)
    assert experiment.arguments == {"data_root": "phantom"} and experiment.descriptions[1].fold == 2


def test_of_two_that_a_killed_run_left_the_better(folder):
    write_checkpoint(folder / "fold_0-best-fscore-epoch=9-f4=0.600.ckpt", 0)
    write_checkpoint(folder / "fold_2-best-fscore-epoch=10-f4=0.512.ckpt", 2)
    assert [fold.generalist.name for fold in load(folder).folds] == [
        "fold_0-best-fscore-epoch=9-f4=0.600.ckpt",
        "fold_2-best-fscore-epoch=10-f4=0.512.ckpt",
    ]


def test_best_single_is_each_fold_on_the_tomogram_it_did_not_see(folder):
    found = detectors(folder, "best_single")
    assert [one.name for one in found] == ["fold_0", "fold_2"]
    for one, fold in zip(found, (0, 2), strict=True):
        assert [path.name for path in one.ensemble.members] == [f"fold_{fold}-best-fscore-epoch=3-f4=0.512.ckpt"]
        assert one.ensemble.combine is mean_of_maps
        assert one.tuning == {f"TS_{fold}": one.ensemble}


def test_specialists_come_in_the_order_of_the_labels(folder):
    found = detectors(folder, "ensemble_specialists")
    assert [one.name for one in found] == ["fold_0", "fold_2"]
    for one, fold in zip(found, (0, 2), strict=True):
        names = [path.name.split("-epoch")[0] for path in one.ensemble.members]
        assert names == [f"fold_{fold}-best-{name}" for name in NAMES]
        assert one.ensemble.combine is specialists_map
        assert one.tuning == {f"TS_{fold}": one.ensemble}


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_held_out_run_of_a_fold_is_tuned_on(folder, strategy):
    for path in folder.glob("fold_*-best-*.ckpt"):
        fold = int(path.name[5])
        held_out, others = ([f"TS_{k}", f"TS_{k + 1}"] for k in (fold, 2 - fold))
        write_checkpoint(path, fold, validation_runs=held_out, training_runs=others)
    found = detectors(folder, strategy)
    expected = [{"TS_0", "TS_1", "TS_2", "TS_3"}] if len(found) == 1 else [{"TS_0", "TS_1"}, {"TS_2", "TS_3"}]
    assert [set(one.tuning) for one in found] == expected
    for one in found:
        for run, ensemble in one.tuning.items():
            assert {path.name[:6] for path in ensemble.members} == {f"fold_{int(run[3]) // 2 * 2}"}


def test_hyperparameters_come_from_those_who_are_for_the_particle(folder):
    for value, what in enumerate(("fscore", *NAMES)):
        table = {"cc3d": {name: {"nms_radius_fraction": value} for name in NAMES}}
        write_checkpoint(folder / f"fold_0-best-{what}-epoch=3-f4=0.512.ckpt", 0, hyperparameters=table)
    [generalist] = detectors(folder, "best_single")[0].found_in_training({})
    assert generalist["cc3d"] == {name: {"nms_radius_fraction": 0} for name in NAMES}
    specialists = detectors(folder, "ensemble_specialists")[0].found_in_training({})
    assert specialists == [{"cc3d": {name: {"nms_radius_fraction": i}}} for i, name in enumerate(NAMES, start=1)]
    assert detectors(folder, "kfold_ensemble")[0].found_in_training({})[1] == {}


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_nothing_is_tuned_on_what_it_was_trained_on(folder, strategy):
    """A network of fold k has been trained on every run but the one that fold k held out."""
    for detector in detectors(folder, strategy):
        for run_name, ensemble in detector.tuning.items():
            for member in ensemble.members:
                fold = member.name.split("-")[0].removeprefix("fold_")
                assert run_name == f"TS_{fold}"


def test_the_ensemble_is_tuned_on_every_held_out_tomogram(folder):
    [ensemble] = detectors(folder, "kfold_ensemble")
    assert [path.name[:6] for path in ensemble.ensemble.members] == ["fold_0", "fold_2"]
    assert {name: [path.name[:6] for path in one.members] for name, one in ensemble.tuning.items()} == {
        "TS_0": ["fold_0"],
        "TS_2": ["fold_2"],
    }
    assert all(one.combine is mean_of_maps for one in (ensemble.ensemble, *ensemble.tuning.values()))


# --- The data it was trained on -----------------------------------------------------------------------
def trained_on_tiny_data(tmp_path, folder, **changes):
    """An experiment that was trained on two runs of noise."""
    for seed, name in enumerate(tiny_campaign.TRAINING):
        tiny_campaign.write_run(tmp_path / "data", name, seed)
    args = train.build_parser().parse_args(["--data_root", str(tmp_path / "data")])
    runs = {labels.run_name: labels.content for labels in train.read_labels(volume_source(args))}
    arguments = {**resolved_arguments(args), "runs": runs, **changes}
    (folder / "args.json").write_text(json.dumps(arguments, default=str))
    return load(folder)


def test_training_data_is_known_by_its_content_wherever_it_lies(tmp_path, folder):
    experiment = trained_on_tiny_data(tmp_path, folder)
    (tmp_path / "data").rename(tmp_path / "moved")
    tiny_campaign.write_run(tmp_path / "moved", "TS_3", 3)  # a run that has come since takes nothing away
    experiment.check_training_data(tmp_path / "moved", PARTICLES)
    for seed, name in enumerate(tiny_campaign.TRAINING):
        tiny_campaign.write_run(tmp_path / "other", name, seed + 7)
    advice = "say where its training data is by --training_data_root"
    with pytest.raises(InputError, match=rf"df1 was trained on: it has other picks, .* of run TS_1, TS_2; {advice}"):
        experiment.check_training_data(tmp_path / "other", PARTICLES)
    shutil.rmtree(tmp_path / "moved" / "train" / "static" / "ExperimentRuns" / "TS_2")
    with pytest.raises(InputError, match="it has no run TS_2"):
        experiment.check_training_data(tmp_path / "moved", PARTICLES)


def test_a_campaign_refuses_other_training_data(tmp_path, folder):
    """Unless the user says that it is the right one."""
    changes = {"runs": dict.fromkeys(tiny_campaign.TRAINING, "0123")}
    experiment = trained_on_tiny_data(tmp_path, folder, **changes)
    with pytest.raises(InputError, match="is not what df1 was trained on"):
        training_root(experiment, SimpleNamespace(training_data_root=None), PARTICLES)
    said = SimpleNamespace(training_data_root=tmp_path / "data")
    assert training_root(experiment, said, PARTICLES) == tmp_path / "data"


def test_a_relative_data_root_of_an_earlier_version_is_said(tmp_path, folder, monkeypatch):
    (tmp_path / "phantom").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.warns(UserWarning, match=r"df1 was trained on phantom, taken as \S+/phantom; .*--training_data_root"):
        training_root(load(folder), SimpleNamespace(training_data_root=None), PARTICLES)


# --- Mistakes -----------------------------------------------------------------------------------------
def test_a_name_that_is_none(folder):
    (folder.parent / "empty").mkdir()
    for name in ("df", "empty", "df12"):
        with pytest.raises(InputError, match=rf"no experiment '{name}' in .*; there are: df1$"):
            load_experiment(folder.parent, name, PARTICLES)
    with pytest.raises(InputError, match=r"there are: none; train\.py makes them"):
        load_experiment(folder.parent / "nowhere", "df1", PARTICLES)


def test_a_specialist_that_is_missing(folder):
    next(folder.glob("fold_2-best-thyroglobulin-*.ckpt")).unlink()
    with pytest.raises(InputError, match="df1 has no specialist for thyroglobulin in fold 2"):
        detectors(folder, "ensemble_specialists")
    assert len(detectors(folder, "best_single")) == 2


def test_folds_that_were_not_trained_alike(folder):
    write_checkpoint(folder / "fold_2-best-fscore-epoch=3-f4=0.512.ckpt", 2, norm_percentiles=(0.0, 100.0))
    with pytest.raises(InputError, match="differ in normalisation percentiles"):
        load(folder)


@pytest.mark.parametrize("what", ["fscore", "ribosome"])
def test_a_network_of_another_particle_table(folder, what):
    """Generalists and specialists alike."""
    rows = [{**row, "name": row["name"].replace("ribosome", "proteasome")} for row in table_as_dicts()]
    write_checkpoint(folder / f"fold_2-best-{what}-epoch=3-f4=0.512.ckpt", 2, particles=rows)
    with pytest.raises(InputError, match=r"label 4 is proteasome .* and ribosome .* in particle_config.py"):
        detectors(folder, "ensemble_specialists")


def test_a_fold_that_has_not_finished_is_named(folder):
    (folder / "fold_2" / "result.json").unlink()
    with pytest.warns(UserWarning, match="fold 2 has not finished"):
        load(folder)


def test_without_the_arguments_nobody_knows_the_training_data(folder):
    Path(folder / "args.json").unlink()
    with pytest.raises(InputError, match=r"args\.json"):
        load(folder)
