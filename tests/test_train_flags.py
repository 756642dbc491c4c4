"""Every flag of train.py reaches what trains; what contradicts itself is refused with one line."""

import dataclasses
import json

import pytest

import train
from errors import InputError
from training.argument_checks import check_arguments
from training.arguments import (
    complete_arguments,
    hardware,
    resolved_arguments,
    training_settings,
    volume_source,
)

# One case for every flag: words that differ from the defaults, and the plain value that they must change.
CASES = {
    "--encoder_name": (["resnet50"], "encoder_name", "resnet50"),
    "--norm_type": (["mix"], "norm_type", "mix"),
    "--patch_size": (["32", "64", "96"], "patch_size_zyx", (32, 64, 96)),
    "--output_stride": (["1"], "output_stride", 1),
    "--dropout": (["0.2"], "dropout", 0.2),
    "--label_smoothing": (["0.3"], "label_smoothing", 0.3),
    "--epochs": (["3"], "epochs", 3),
    "--validate_every": (["5"], "validate_every", 5),
    "--steps_per_epoch": (["7"], "steps_per_epoch", 7),
    "--batch_size": (["3"], "batch_size", 3),
    "--lr": (["0.5"], "learning_rate", 0.5),
    "--no-use_scheduler": ([], "use_scheduler", False),
    "--use_swa": ([], "averaging", "swa"),
    "--no-use_ema": ([], "averaging", "none"),
    "--use_gradnorm": (["--loss_type", "ce_tversky"], "gradnorm_learning_rate", 0.001),
    "--gradnorm_lr": (["0.01", "--use_gradnorm", "--loss_type", "ce_tversky"], "gradnorm_learning_rate", 0.01),
    "--precision": (["fp32"], "precision", "fp32"),
    "--seed": (["5"], "seed", 5),
    "--device": (["cpu"], "device", "cpu"),
    "--devices": (["2"], "devices", 2),
    "--num_nodes": (["2"], "num_nodes", 2),
    "--strategy": (["ddp"], "strategy", "ddp"),
    "--num_workers": (["3"], "num_workers", 3),
    "--cache_dir": (["elsewhere"], "cache_dir", "elsewhere"),
    "--loss_type": (["focal"], "loss_type", "focal"),
    "--class_loss_weights": (list("1234567"), "class_loss_weights", (1, 2, 3, 4, 5, 6, 7)),
    "--data_root": (["there"], "data_root", "there"),
    "--extra_data_root": (["phantoms"], "extra_share", 0.5),
    "--extra_share": (["0.25", "--extra_data_root", "phantoms"], "extra_share", 0.25),
    "--mask_dir": (["masks"], "mask_root", "masks"),
    "--training_tomo_types": (["wbp", "denoised"], "tomo_types", ("denoised", "wbp")),
    "--augmentation_level": (["advanced"], "augmentation_level", "advanced"),
    "--augmentation_mode": (["isotropic"], "augmentation_mode", "isotropic"),
    "--tilt_axis": (["z"], "tilt_axis", "z"),
    "--filter_prob": (["0.3"], "filter_prob", 0.3),
    "--use_mixup": ([], "mixup_prob", 0.5),
    "--mixup_prob": (["0.25", "--use_mixup"], "mixup_prob", 0.25),
    "--norm_percentiles": (["1", "90"], "norm_percentiles", (1, 90)),
    "--disable_global_norm": ([], "norm_percentiles", None),
    "--radius_fraction": (["0.25"], "radius_fraction", 0.25),
    "--single_pixel_mask": ([], "radius_fraction", 0.0),
    "--voxel_spacing": (["7"], "voxel_spacing_angstrom", 7.0),
    "--rescale": (["7"], "rescale", 7.0),
}
# What the flags of the experiment as a whole do is tested where experiments are run.
ELSEWHERE = {
    *("--resume_from_checkpoint", "--comment", "--experiment_name", "--output_dir", "--fold", "--run_specific_folds"),
    *("--wandb_mode", "--num_folds", "--validation_runs", "--init_from_checkpoint", "--minutes"),
}


def plain_values(words):
    args = train.build_parser().parse_args(words)
    check_arguments(args)
    parts = (volume_source(args), training_settings(args), hardware(args))
    return {field.name: getattr(part, field.name) for part in parts for field in dataclasses.fields(part)}


def test_every_flag_has_a_case():
    flags = {action.option_strings[-1] for action in train.build_parser()._actions} - {"--help"}
    tested = {flag.replace("--no-", "--") for flag in CASES} | ELSEWHERE
    assert {flag.replace("--no-", "--") for flag in flags} == tested


@pytest.fixture(autouse=True)
def any_cpu(monkeypatch):
    """One without bf16 has another default."""
    monkeypatch.setattr("inference.device.cpu_computes_bf16", lambda: True)


@pytest.mark.parametrize("flag", CASES)
def test_a_flag_changes_its_value(flag):
    words, name, expected = CASES[flag]
    value = plain_values([flag, *words])[name]
    assert (str(value) if isinstance(expected, str) else value) == expected
    if flag != "--device":  # without a GPU the default is the CPU, too
        assert value != plain_values([])[name]


def test_single_voxels_get_heavy_weights_unless_told_otherwise():
    assert plain_values(["--single_pixel_mask"])["class_loss_weights"] == (1.0, *(6 * [128.0]))
    assert plain_values(["--single_pixel_mask", "--class_loss_weights", *"1234567"])["class_loss_weights"][1] == 2


def test_single_voxels_are_trained_by_cross_entropy_unless_told_otherwise():
    assert plain_values([])["loss_type"] == "ce_tversky"
    assert plain_values(["--single_pixel_mask"])["loss_type"] == "ce"
    assert plain_values(["--single_pixel_mask", "--loss_type", "ce_tversky"])["loss_type"] == "ce_tversky"


# --- args.json ----------------------------------------------------------------------------------------
def resolved(words):
    """What args.json of a run with these words holds."""
    return json.loads(json.dumps(resolved_arguments(train.build_parser().parse_args(words)), default=str))


@pytest.mark.parametrize("flag", [flag for flag in CASES if flag.removeprefix("--") not in train.ANYWHERE])
def test_what_changes_the_networks_is_written_down(flag):
    words, default = [flag, *CASES[flag][0]], resolved([])
    changed = {name for name, value in resolved(words).items() if value != default[name]}
    assert changed - set(train.ANYWHERE)


@pytest.mark.parametrize(
    ("constant", "name", "value"),
    [
        ("WEIGHT_DECAY", "weight_decay", 0.5),
        ("GRADIENT_CLIP", "gradient_clip", 7.0),
        ("WARMUP_STEPS", "warmup_steps", 3),
        ("EMA_DECAY", "ema_decay", 0.5),
        ("SWA_START_FRACTION", "swa_start_fraction", 0.5),
        ("BACKGROUND_FRACTION", "background_fraction", 0.5),
        ("SW_OVERLAP", "validation_overlap", 0.5),
        ("GRADNORM_LR", "gradnorm_lr", 0.5),
    ],
)
def test_what_config_gave_is_written_down(monkeypatch, constant, name, value):
    words = ["--use_gradnorm"]
    assert resolved(words)[name] not in (None, value)
    monkeypatch.setattr(f"config.{constant}", value)
    assert resolved(words)[name] == value


def test_clip_range_and_class_weights_are_written_down():
    assert resolved([])["norm_percentiles"] == [0.5, 99.5] and resolved([])["class_loss_weights"][:2] == [1.0, 20.0]
    assert resolved(["--disable_global_norm"])["norm_percentiles"] is None


@pytest.mark.parametrize("words", [[], ["--single_pixel_mask", "--radius_fraction", "0.4"], ["--disable_global_norm"]])
def test_arguments_of_earlier_versions_are_completed(words):
    """They kept the flags as given; what is complete stays as it is."""
    parser = train.build_parser()
    earlier = json.loads(json.dumps(vars(parser.parse_args(words)), default=str))
    del earlier["experiment_name"]
    defaults, expected = parser.parse_args([]), resolved(words)
    for saved in (earlier, expected):
        completed = complete_arguments(saved, defaults)
        assert json.loads(json.dumps(completed, default=str)) == expected
    assert complete_arguments({**expected, "weight_decay": 0.5}, defaults)["weight_decay"] == 0.5
    del earlier["dropout"], earlier["label_smoothing"]
    before = complete_arguments(earlier, defaults)
    assert (before["dropout"], before["label_smoothing"]) == (0.2, 0.1), "what it was before there were flags"


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("--single_pixel_mask --use_gradnorm", "which ce is not"),
        ("--experiment_name a --comment b", "give one of them"),
        ("--experiment_name a --resume_from_checkpoint b/fold_0-last.ckpt", "not of the experiment a"),
        ("--use_swa --use_ema", "exclude each other"),
        ("--fold 0 --run_specific_folds 1", "exclude each other"),
        ("--use_gradnorm --loss_type focal", "ce_tversky"),
        ("--gradnorm_lr 0.1", "without --use_gradnorm"),
        ("--mixup_prob 0.5", "without --use_mixup"),
        ("--disable_global_norm --norm_percentiles 1 99", "give one of them"),
        ("--encoder_name resnet18 --dropout 0.2", "resnet18 has none"),
        ("--loss_type focal --label_smoothing 0.1", "focal has no cross-entropy"),
        ("--encoder_name resnet18 --patch_size 48 64 64", "nearest that does: 64 64 64"),
        ("--patch_size 30 32 32", "nearest that does: 32 32 32"),
        ("--class_loss_weights 1 0 0 0 0 0 0", "not all be 0"),
        ("--use_mixup --batch_size 1", "2 or more"),
    ],
)
def test_contradictions_are_refused(words, text):
    with pytest.raises(InputError, match=text):
        plain_values(words.split())


def test_rescale_without_a_number_is_that_of_the_first_run():
    assert plain_values(["--rescale"])["rescale"] == plain_values(["--rescale", "first"])["rescale"] == "first"


def test_zero_is_a_value():
    assert plain_values(["--num_workers", "0"])["num_workers"] == 0
