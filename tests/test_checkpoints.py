"""Checkpoints describe themselves, and refuse what does not fit."""

import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from errors import InputError
from inference.checkpoints import (
    FORMAT,
    KEY,
    NETWORK_PREFIX,
    Description,
    check_agreement,
    find_checkpoints,
    load_checkpoint,
    read_description,
    table_in_use,
)
from models import model_from_description
from particle_config import PARTICLES, Particle

DESCRIPTION = Description(
    architecture={"encoder_name": "deepfinder2", "norm_type": "batch", "num_classes": 7},
    particles=PARTICLES,
    patch_size_zyx=(64, 64, 64),
    norm_percentiles=(0.5, 99.5),
    radius_fraction=0.5,
    tomo_types=("denoised",),
    voxel_spacing_angstrom=10.012,
    fold=0,
    validation_runs=("TS_1",),
    hyperparameters={"peak_local_max_gpu": {"ribosome": {"peak_threshold": 0.4, "nms_radius_fraction": 0.8}}},
    f4=0.8,
)


def save(path, description=DESCRIPTION):
    network = model_from_description(description.architecture)
    weights = {NETWORK_PREFIX + name: value for name, value in network.state_dict().items()}
    torch.save({"state_dict": weights, KEY: description.as_plain()}, path)
    return network


def test_an_older_checkpoint_does_not_name_its_training_runs():
    plain = replace(DESCRIPTION, training_runs=("a", "b")).as_plain()
    assert Description.from_plain(plain).training_runs == ("a", "b")
    del plain["training_runs"]
    assert Description.from_plain(plain).training_runs is None


def test_round_trip(tmp_path):
    network = save(tmp_path / "a.ckpt").eval()
    loaded, description = load_checkpoint(tmp_path / "a.ckpt")
    assert description == DESCRIPTION and not loaded.training
    volume = torch.randn(1, 1, 16, 16, 16)
    assert torch.equal(network(volume), loaded(volume))


def test_a_network_of_stride_2_comes_back_as_one(tmp_path):
    description = replace(DESCRIPTION, architecture={**DESCRIPTION.architecture, "output_stride": 2})
    network = save(tmp_path / "a.ckpt", description).eval()
    loaded, found = load_checkpoint(tmp_path / "a.ckpt")
    volume = torch.randn(1, 1, 16, 16, 16)
    assert found == description and loaded.output_stride == 2
    assert loaded(volume).shape == (1, 7, 8, 8, 8) and torch.equal(network(volume), loaded(volume))


def test_trained_without_global_normalisation(tmp_path):
    raw = replace(DESCRIPTION, norm_percentiles=None)
    save(tmp_path / "a.ckpt", raw)
    assert read_description(tmp_path / "a.ckpt") == raw
    check_agreement([tmp_path / "a.ckpt"] * 2, [raw, raw])


def test_checkpoints_from_before_the_stride_answer_at_every_voxel():
    explicit = replace(DESCRIPTION, architecture={**DESCRIPTION.architecture, "output_stride": 1})
    check_agreement([Path("a.ckpt"), Path("b.ckpt")], [DESCRIPTION, explicit])


def test_checkpoints_from_before_the_augmentation_mode_was_kept_count_as_anisotropic(tmp_path):
    isotropic = replace(DESCRIPTION, augmentation_mode="isotropic")
    save(tmp_path / "a.ckpt", isotropic)
    assert read_description(tmp_path / "a.ckpt") == isotropic
    plain = isotropic.as_plain()
    del plain["augmentation_mode"]
    assert Description.from_plain(plain).augmentation_mode == "anisotropic"


def test_checkpoints_from_before_the_tilt_axis_was_kept_count_as_y():
    plain = replace(DESCRIPTION, tilt_axis="z").as_plain()
    assert Description.from_plain(plain).tilt_axis == "z"
    del plain["tilt_axis"]
    assert Description.from_plain(plain).tilt_axis == "y"


def test_a_checkpoint_of_a_newer_format_is_refused(tmp_path):
    save(tmp_path / "a.ckpt")
    checkpoint = torch.load(tmp_path / "a.ckpt", weights_only=True)
    checkpoint[KEY] |= {"a_later_field": 1}
    torch.save(checkpoint, tmp_path / "a.ckpt")
    assert read_description(tmp_path / "a.ckpt") == DESCRIPTION
    checkpoint[KEY]["format"] = FORMAT + 1
    torch.save(checkpoint, tmp_path / "a.ckpt")
    with pytest.raises(InputError, match=rf"a.ckpt is a checkpoint of format {FORMAT + 1}, .* up to {FORMAT};"):
        load_checkpoint(tmp_path / "a.ckpt")


def test_another_particle_table_is_refused_by_name(tmp_path):
    save(tmp_path / "a.ckpt")
    swapped = (*PARTICLES[:3], replace(PARTICLES[3], name="proteasome"), *PARTICLES[4:])
    with pytest.raises(InputError, match=r"label 4 is ribosome .* and proteasome"):
        load_checkpoint(tmp_path / "a.ckpt", swapped)
    with pytest.raises(InputError, match="6 particles there, 7"):
        load_checkpoint(tmp_path / "a.ckpt", (*PARTICLES, Particle("proteasome", 80, 1, 7, "#000000")))


def test_the_table_given_or_here_or_the_networks_own():
    theirs = (*PARTICLES[:3], replace(PARTICLES[3], name="proteasome"), *PARTICLES[4:])
    weighted = tuple(replace(p, score_weight=7.0) for p in PARTICLES)
    assert table_in_use(theirs, given=None, here=PARTICLES) == theirs
    assert table_in_use(PARTICLES, given=None, here=weighted) == weighted
    assert table_in_use(theirs, given=PARTICLES, here=weighted) == PARTICLES


def test_colours_and_aliases_may_change(tmp_path):
    save(tmp_path / "a.ckpt")
    load_checkpoint(tmp_path / "a.ckpt", tuple(replace(p, colour="#000000", aliases=()) for p in PARTICLES))


def test_damaged_and_foreign_files(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        load_checkpoint(tmp_path / "none.ckpt")
    (tmp_path / "text.ckpt").write_text("not a checkpoint")
    with pytest.raises(InputError, match="cannot be read"):
        load_checkpoint(tmp_path / "text.ckpt")
    save(tmp_path / "cut.ckpt")
    whole = (tmp_path / "cut.ckpt").read_bytes()
    (tmp_path / "cut.ckpt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="cannot be read"):
        load_checkpoint(tmp_path / "cut.ckpt")
    torch.save({"state_dict": {}}, tmp_path / "foreign.ckpt")
    with pytest.raises(InputError, match=r"not written by train\.py"):
        load_checkpoint(tmp_path / "foreign.ckpt")


def test_a_folder_is_its_best_generalists(tmp_path):
    names = ["fold_0-best-fscore-epoch=1-f4=0.8.ckpt", "fold_0-best-ribosome-epoch=1-f4=0.9.ckpt", "fold_0-last.ckpt"]
    for name in names:
        (tmp_path / name).touch()
    assert [path.name for path in find_checkpoints(tmp_path)] == names[:1]
    assert find_checkpoints(tmp_path / names[2]) == [tmp_path / names[2]]
    (tmp_path / names[0]).unlink()
    assert len(find_checkpoints(tmp_path)) == 2


def test_nothing_to_find(tmp_path):
    with pytest.raises(InputError, match=r"holds no \.ckpt"):
        find_checkpoints(tmp_path)
    with pytest.raises(InputError, match="does not exist"):
        find_checkpoints(tmp_path / "none")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"voxel_spacing_angstrom": 5.0}, "voxel spacing"),
        ({"norm_percentiles": (5.0, 95.0)}, "percentiles"),
        ({"norm_percentiles": None}, "percentiles"),
        ({"radius_fraction": 0.3}, "radius fraction"),
        ({"architecture": {**DESCRIPTION.architecture, "output_stride": 2}}, "output stride"),
    ],
)
def test_networks_of_different_kinds_are_not_averaged(tmp_path, change, named):
    paths = [tmp_path / "a.ckpt", tmp_path / "b.ckpt"]
    check_agreement(paths, [DESCRIPTION, DESCRIPTION])
    with pytest.raises(InputError, match=f"b.ckpt and a.ckpt differ in .*{named}"):
        check_agreement(paths, [DESCRIPTION, replace(DESCRIPTION, **change)])


def test_an_older_checkpoint_held_out_one_run():
    plain = DESCRIPTION.as_plain()
    plain["validation_run"] = plain.pop("validation_runs")[0]
    assert Description.from_plain(plain) == DESCRIPTION


# --- Damage -------------------------------------------------------------------------------------------
def test_every_damaged_part_is_told(tmp_path):
    path = tmp_path / "a.ckpt"
    save(path)
    whole = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        parts = archive.infolist()
    for part in (max(parts, key=lambda one: one.file_size), *parts[:3]):
        damaged = bytearray(whole)
        damaged[part.header_offset + 30 + len(part.filename) + part.file_size // 2 + 64] ^= 16
        path.write_bytes(damaged)
        if part.file_size > 1000:
            with pytest.raises(InputError, match=r"a\.ckpt cannot be read as a checkpoint \(.* in it is damaged"):
                load_checkpoint(path)
    path.write_bytes(whole)
    load_checkpoint(path)


def test_an_archive_that_grows_is_not_unpacked(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.ckpt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", bytes(2**24))
    with pytest.raises(InputError, match="its parts are compressed"):
        read_description(tmp_path / "a.ckpt")


ARCHITECTURE = DESCRIPTION.architecture


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("f4", None, "f4 is 'None', not a number"),
        ("patch_size_zyx", "abc", "patch_size_zyx is 'abc', not three sides in voxels"),
        ("norm_percentiles", (99.5, 0.5), "norm_percentiles is .* not two percentiles or nothing"),
        ("voxel_spacing_angstrom", float("nan"), "voxel_spacing_angstrom is 'nan', not a number above 0"),
        ("tomo_types", (), "tomo_types is .* not names"),
        ("tilt_axis", "w", "tilt_axis is 'w', not one of"),
        ("particles", [{"name": "a"}], "does not describe its network whole"),
        ("hyperparameters", {"a": {"b": {"c": "high"}}}, "not numbers by method, particle and name"),
        (
            "architecture",
            {**ARCHITECTURE, "encoder_name": "vit"},
            "not the arguments .* encoders deepfinder2, resnet18",
        ),
        ("architecture", {**ARCHITECTURE, "num_classes": 10**9}, "the network has 1000000000 classes, .* 6 rows"),
        ("architecture", [1], "not the arguments of a network"),
    ],
)
def test_a_wrong_field_is_named_with_the_version_that_wrote_it(tmp_path, field, value, message):
    save(tmp_path / "a.ckpt")
    checkpoint = torch.load(tmp_path / "a.ckpt", weights_only=True)
    checkpoint[KEY][field] = value
    torch.save(checkpoint, tmp_path / "a.ckpt")
    with pytest.raises(InputError, match=message) as error:
        load_checkpoint(tmp_path / "a.ckpt")
    assert f"written in format 1 with torch {torch.__version__}" in str(error.value)
    del checkpoint[KEY][field]
    torch.save(checkpoint, tmp_path / "a.ckpt")
    if field != "tilt_axis":  # older checkpoints do not have it
        with pytest.raises(InputError, match=f"{field} is missing"):
            load_checkpoint(tmp_path / "a.ckpt")


@pytest.mark.parametrize(
    "change", [lambda w: w.pop(next(iter(w))), lambda w: w.update({"network.new": torch.zeros(1)})]
)
def test_weights_that_are_missing_or_unexpected_are_named(tmp_path, change):
    save(tmp_path / "a.ckpt")
    checkpoint = torch.load(tmp_path / "a.ckpt", weights_only=True)
    change(checkpoint["state_dict"])
    torch.save(checkpoint, tmp_path / "a.ckpt")
    with pytest.raises(InputError, match=r"do not fit .* \((Missing|Unexpected) key.*; use the version that wrote it"):
        load_checkpoint(tmp_path / "a.ckpt")


def test_of_two_best_ones_that_a_killed_run_left_the_better_counts(tmp_path):
    for name in ("epoch=3-f4=0.500", "epoch=7-f4=0.700"):
        save(tmp_path / f"fold_0-best-fscore-{name}.ckpt")
    save(tmp_path / "fold_1-best-fscore-epoch=1-f4=0.100.ckpt")
    found = [path.name for path in find_checkpoints(tmp_path)]
    assert found == ["fold_0-best-fscore-epoch=7-f4=0.700.ckpt", "fold_1-best-fscore-epoch=1-f4=0.100.ckpt"]
