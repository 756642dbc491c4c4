"""Training that begins with the weights of another network."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import tiny_campaign
import torch

import train
from errors import InputError
from models import build_model
from particle_config import PARTICLES
from training.initial_weights import check_initial_weights, initial_checkpoint, take_initial_weights


@pytest.fixture
def checkpoint(tmp_path):
    path = tmp_path / "other.ckpt"
    tiny_campaign.write_checkpoint(path, fold=0, seed=5)
    return path


def weights(path):
    return {
        name.removeprefix("network."): value
        for name, value in torch.load(path, weights_only=True)["state_dict"].items()
        if name.startswith("network.")
    }


def network(classes=7):
    torch.manual_seed(1)
    return build_model("deepfinder2", num_classes=classes)


def test_all_weights_are_taken_where_the_particles_are_the_same(checkpoint):
    here = network()
    assert take_initial_weights(here, checkpoint, PARTICLES) == "begins with the weights of other.ckpt"
    assert all(torch.equal(value, here.state_dict()[name]) for name, value in weights(checkpoint).items())


@pytest.mark.parametrize("particles", [PARTICLES[:3], (replace(PARTICLES[0], name="spike"), *PARTICLES[1:])])
def test_the_layers_of_the_classes_begin_anew_where_they_are_others(checkpoint, particles):
    here = network(len(particles) + 1)
    before = {name: value.clone() for name, value in here.state_dict().items()}
    assert "but for the layers of the classes" in take_initial_weights(here, checkpoint, particles)
    taken, own = weights(checkpoint), set()
    for name, value in here.state_dict().items():
        # The last block of this network has a channel for each class throughout, but for its input.
        if name.startswith("decoder.2."):
            own.add(name)
            assert torch.equal(value, before[name]) or "num_batches" in name
        else:
            assert torch.equal(value, taken[name])
    assert len(own) > 4


def test_another_kind_of_network_is_refused_before_anything_is_written(checkpoint, tmp_path):
    settings = SimpleNamespace(
        init_from_checkpoint=checkpoint, encoder_name="resnet18", norm_type="batch", output_stride=1
    )
    with pytest.raises(InputError, match="has --encoder_name deepfinder2, not resnet18; give --encoder_name"):
        check_initial_weights(settings)
    for seed, name in enumerate(("TS_1", "TS_2")):
        tiny_campaign.write_run(tmp_path / "data", name, seed)
    words = ("--data_root", tmp_path / "data", "--output_dir", tmp_path / "out", "--init_from_checkpoint", checkpoint)
    with pytest.raises(InputError, match="--output_stride 1, not 2"):
        train.main([*map(str, words), "--output_stride", "2", "--encoder_name", "deepfinder2"])
    assert not (tmp_path / "out").exists()


def test_the_checkpoint_of_a_folder(checkpoint, tmp_path):
    assert initial_checkpoint(tmp_path) == checkpoint
    tiny_campaign.write_checkpoint(tmp_path / "second.ckpt", fold=0, seed=5)
    with pytest.raises(InputError, match="holds 2 networks; name one"):
        initial_checkpoint(tmp_path)
    with pytest.raises(InputError, match=r"--init_from_checkpoint .* does not exist"):
        initial_checkpoint(tmp_path / "none")


def test_a_training_that_learns_nothing_ends_with_the_weights_that_it_began_with(checkpoint, tmp_path, capsys):
    for seed, name in enumerate(("TS_1", "TS_2")):
        tiny_campaign.write_run(tmp_path / "data", name, seed)
    folders = ("--data_root", tmp_path / "data", "--output_dir", tmp_path / "out", "--cache_dir", tmp_path / "cache")
    steps = ("--epochs", 1, "--steps_per_epoch", 1, "--batch_size", 1, "--patch_size", 16, 32, 32, "--lr", 1e-9)
    flags = ("--encoder_name", "deepfinder2", "--output_stride", 1, "--device", "cpu", "--precision", "fp32")
    words = [*folders, *steps, *flags, "--fold", 0, "--experiment_name", "one", "--init_from_checkpoint", checkpoint]
    train.main(list(map(str, words)))
    assert "fold 0: begins with the weights of other.ckpt" in capsys.readouterr().out
    best = next((tmp_path / "out" / "one").glob("fold_0-best-fscore-*.ckpt"))
    tiny_campaign.write_checkpoint(tmp_path / "another.ckpt", fold=0, seed=6)
    kept = checkpoint.read_bytes()
    checkpoint.write_bytes((tmp_path / "another.ckpt").read_bytes())
    with pytest.raises(InputError, match=r"--init_from_checkpoint .*content .*, not .*content"):
        train.main(list(map(str, words)))
    checkpoint.write_bytes(kept)
    train.main(list(map(str, words)))
    assert "fold 0: finished before" in capsys.readouterr().out
    before, after = weights(checkpoint), weights(best)
    learnt = [name for name in after if "running" not in name and "num_batches" not in name]
    assert all(torch.allclose(after[name], before[name], atol=1e-6) for name in learnt)
