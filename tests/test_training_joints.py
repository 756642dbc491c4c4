"""Where the parts of training meet: voxels and angstrom, zyx and xyz, ranks, devices, what a setting becomes."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import mrcfile
import numpy as np
import pytest
import pytorch_lightning as pl
import tiny_campaign
import torch
from pytorch_lightning.accelerators import CPUAccelerator
from pytorch_lightning.strategies import SingleDeviceStrategy
from torch import nn

import config
import prepare_mask_czi
import train
from data.augmentation import mixup
from data.folds import deal_runs
from data.patches import PatchBatches
from data.phantom.dataset import PhantomSettings, noise_per_pixel
from data.phantom.tilt_series import Geometry, Microscope, expose, tilt_angles
from data.training_volume import TrainingVolume
from errors import InputError, MachineError
from inference.checkpoints import read_description
from losses import build_loss
from models import build_model
from particle_config import PARTICLES
from training.arguments import training_settings, volume_source
from training.callbacks import LossGuard, SignalsBetweenSteps, TrainingProgress
from training.checkpoint_files import BestCheckpoint
from training.experiment import finished_folds
from training.fold_data import FoldData
from training.module import DetectionModule
from training.run import _averaging, _build_module, train_fold
from training.settings import Hardware

QUICK = ["--patch_size", "16", "24", "32", "--batch_size", "2", "--precision", "fp32"]


@pytest.fixture
def words(tmp_path):
    """A command line on two runs of noise, 24 x 32 x 32 voxels of 10 angstrom, two points of every particle."""
    for seed, name in enumerate(tiny_campaign.TRAINING):
        tiny_campaign.write_run(tmp_path / "data", name, seed)
    return ["--data_root", str(tmp_path / "data"), "--cache_dir", str(tmp_path / "cache"), *QUICK]


def parts_of(words):
    """The held-out fold 0, its module and its data, as train.py makes them."""
    args = train.build_parser().parse_args(words)
    source, settings = volume_source(args), training_settings(args)
    fold = train.load_folds(source, train.read_labels(source))[0]
    module = _build_module(fold, source, PARTICLES, settings)
    return fold, module, FoldData(fold, settings, num_workers=0, pin_memory=False)


# --- Patches ------------------------------------------------------------------------------------------
def test_a_patch_has_the_sides_asked_for_and_the_particle_in_its_middle(monkeypatch):
    """A volume of three different sides whose voxels hold their own number."""
    monkeypatch.setattr("data.patches.CENTRE_JITTER_FRACTION", 0.0)
    shape = (31, 41, 51)
    image = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    centre = np.array([15, 22, 29])
    volume = TrainingVolume("a", (image,), np.zeros(shape, np.uint8), {1: centre[None].astype(float)}, 10.0)
    batches = PatchBatches([volume], patch_size_zyx=(9, 11, 13), batch_size=2, background_fraction=0.0, seed=0)
    batch = batches[0]
    assert batch["image"].shape == (2, 1, 9, 11, 13) and batch["label"].shape == (2, 9, 11, 13)
    assert (batch["image"][:, 0, 4, 5, 6] == float(image[tuple(centre)])).all()


def test_every_process_cuts_its_own_batches(words):
    _, _, data = parts_of([*words, "--steps_per_epoch", "3"])
    drawn = []
    for rank in (0, 1):
        data.trainer = SimpleNamespace(global_rank=rank, world_size=2)
        drawn.append([batch["index"] for batch in data.train_dataloader()])
    assert drawn == [[0, 2, 4], [1, 3, 5]]


# --- Truth and settings -------------------------------------------------------------------------------
def test_validation_is_against_the_points_of_the_files_in_angstrom(words, tmp_path):
    fold, module, _ = parts_of(words)
    picks = tmp_path / "data" / "train" / "overlay" / "ExperimentRuns" / fold.validation[0].run_name / "Picks"
    for particle in PARTICLES:
        points = json.loads((picks / f"{particle.name}.json").read_text())["points"]
        expected = [[point["location"][axis] for axis in "zyx"] for point in points]
        np.testing.assert_allclose(module.held_out[0].truth_zyx_angstrom(PARTICLES)[particle.name], expected)


def test_points_are_those_of_the_voxel_size_given(words):
    """Of tomograms whose headers are wrong: positions in angstrom stay, voxels are others."""
    fold, module, _ = parts_of([*words, "--voxel_spacing", "20"])
    here, _, _ = parts_of(words)
    for label, centres in here.validation[0].centres_zyx_voxels.items():
        np.testing.assert_allclose(fold.validation[0].centres_zyx_voxels[label], centres / 2)
    assert module.description.voxel_spacing_angstrom == 20


def test_validation_windows_are_large_but_for_instance_norm(words):
    args = train.build_parser().parse_args(words)
    assert training_settings(args).inference.window == config.VALIDATION_WINDOW
    for norm in ("instance", "mix"):
        args = train.build_parser().parse_args([*words, "--norm_type", norm])
        assert training_settings(args).inference.window == (16, 24, 32)


def test_networks_drop_out_a_share_in_training_only():
    network = build_model("deepfinder2", num_classes=3, dropout=0.2).train()
    rates = [module.p for module in network.modules() if isinstance(module, nn.Dropout | nn.Dropout3d)]
    assert rates and set(rates) == {0.2}
    volume = torch.randn(1, 1, 16, 16, 16, generator=torch.Generator().manual_seed(0))
    assert not torch.equal(network(volume), network(volume))
    assert torch.equal(network.eval()(volume), network(volume))


def test_of_equal_checkpoints_the_later_is_kept(tmp_path):
    best = BestCheckpoint(tmp_path, "fold_0-best-fscore", "f4")
    best.best_k_models, best.kth_best_model_path = {"earlier": torch.tensor(0.5)}, "earlier"
    best.best_model_score = torch.tensor(0.5)
    trainer = mock.Mock(strategy=mock.Mock(reduce_boolean_decision=lambda decision: decision))
    for value, kept in ((0.4, False), (0.5, True), (0.6, True)):
        assert bool(best.check_monitor_top_k(trainer, torch.tensor(value))) is kept


# --- Losses and mixing --------------------------------------------------------------------------------
def test_tversky_counts_a_batch_as_one():
    """The class is in one of two patches and found there; in the other, half of its false voxels weigh on all."""
    loss = build_loss("tversky", (1.0, 1.0))
    target = torch.zeros(2, 1, 1, 4, dtype=torch.long)
    target[0, 0, 0, :2] = 1
    logits = torch.zeros(2, 2, 1, 1, 4)
    logits[:, 1] = torch.where(target > 0, 50.0, -50.0)
    logits[1, 1, 0, 0, :2] = 50.0  # two false voxels
    expected = 0.3 * 2 / (2 + 0.3 * 2 + 1e-5)
    assert float(loss(logits, target)["tversky"]) == pytest.approx(expected, rel=1e-4)


def test_every_patch_is_mixed_by_a_share_of_its_own_from_0_to_1():
    count = 400
    image = torch.arange(count, dtype=torch.float32).view(-1, 1, 1, 1, 1) ** 2  # differences tell the partner
    target = torch.zeros(count, count, 1, 1, 1)
    target[range(count), range(count)] = 1.0
    _, mixed = mixup(image, target, probability=1.0, generator=torch.Generator().manual_seed(0))
    shares = mixed[range(count), range(count), 0, 0, 0]
    assert len(shares.unique()) == count
    assert abs(float(shares.mean()) - 0.5) < 0.05 and abs(float(shares.std()) - 12**-0.5) < 0.03
    assert shares.min() < 0.05 and shares.max() > 0.95


def test_gradnorm_sees_the_mean_over_all_processes(words):
    """Losses and norms of this process are 1; the strategy says that the mean over all is another one."""
    _, module, _ = parts_of([*words, "--use_gradnorm"])
    reduced = []

    def reduce(tensor, reduce_op):
        reduced.append(tensor)
        return tensor * (3.0 if len(reduced) == 1 else 5.0)

    updates = []
    module.gradnorm.update = lambda losses, norms: updates.append((losses, norms))
    strategy = SimpleNamespace(reduce=reduce)
    module._trainer = SimpleNamespace(strategy=strategy, precision_plugin=SimpleNamespace())
    module._fabric = None
    with mock.patch.object(type(module), "trainer", SimpleNamespace(strategy=strategy, precision_plugin=None)):
        module.log = lambda *_, **__: None
        image, target = torch.randn(1, 1, 16, 24, 32), torch.zeros(1, 8, 12, 16, dtype=torch.uint8)
        module._balance(module.loss(module.network(image), target))
    [(losses, norms)] = updates
    assert torch.equal(losses, 3.0 * reduced[0]) and torch.equal(norms, 5.0 * reduced[1]) and len(reduced) == 2


# --- Phantom ------------------------------------------------------------------------------------------
def test_dose_grows_from_the_untilted_image_outwards():
    """Equal images lose the more detail the later they are taken: 0 degrees first, then outwards, negative first."""
    angles = tilt_angles(20.0, 10.0)
    geometry = Geometry((8, 32, 32), 10.0, angles)
    image = torch.randn(1, 32, 48, generator=torch.Generator().manual_seed(0))
    images, microscope = image.expand(len(angles), -1, -1).contiguous(), Microscope(defocus_angstrom=30000.0)
    left = [expose(images, geometry, microscope, dose).square().sum(dim=(1, 2)) for dose in (6.0, 0.0)]
    share = dict(zip(angles, (left[0] / left[1]).tolist(), strict=True))
    assert sorted(share, key=share.get, reverse=True) == [0.0, -10.0, 10.0, -20.0, 20.0]


def test_noise_follows_the_number_of_tilts_that_share_the_dose():
    """41 tilts of 60 degrees by 3, and 21 by 6: half the electrons a tilt, sqrt(41 / 21) times the noise."""
    settings = PhantomSettings(
        shape_zyx=(32, 32, 32),
        voxel_spacing_angstrom=10.0,
        tilt_range_degrees=60.0,
        tilt_step_degrees=3.0,
        defocus_angstrom=30000.0,
        noise=1.0,
    )
    fine, coarse = noise_per_pixel(settings), noise_per_pixel(replace(settings, tilt_step_degrees=6.0))
    assert fine / coarse == pytest.approx((41 / 21) ** 0.5)


def test_masks_count_what_is_outside_of_the_tomogram(tmp_path, capsys):
    """One point of the ribosome 40 voxels behind the last plane; all others inside."""
    tiny_campaign.write_run(tmp_path, "TS_1", 0)
    path = tmp_path / "train" / "overlay" / "ExperimentRuns" / "TS_1" / "Picks" / "ribosome.json"
    content = json.loads(path.read_text())
    content["points"][0]["location"] = {"x": 100.0, "y": 100.0, "z": 640.0}
    path.write_text(json.dumps(content))
    prepare_mask_czi.main(["--data_root", str(tmp_path)])
    [row] = [line.split() for line in capsys.readouterr().out.splitlines() if line.strip().startswith("TS_1")]
    assert row[-1] == "1"


# --- Devices ------------------------------------------------------------------------------------------
class AnyDevice(CPUAccelerator):
    """Lightning's accelerator of a CPU, which would refuse the meta device."""

    def setup_device(self, device):
        pass


class OnMeta(SingleDeviceStrategy):
    """There is nothing to bring back from the meta device in the end."""

    def teardown(self):
        pass


@pytest.mark.filterwarnings("ignore:.*overridden `on_after_batch_transfer`")
@pytest.mark.parametrize("flags", [[], ["--use_mixup"], ["--single_pixel_mask", "--loss_type", "ce"]], ids=" ".join)
def test_a_training_step_mixes_no_devices(words, flags, monkeypatch):
    """On the meta device, which holds no values: any tensor of another device and any look at a value raises."""
    _, module, data = parts_of([*words, *flags])
    monkeypatch.setattr("pytorch_lightning.loops.fit_loop.has_len_all_ranks", lambda *_: True)  # reads a number
    trainer = pl.Trainer(
        strategy=OnMeta(device=torch.device("meta"), accelerator=AnyDevice()),
        max_steps=2,
        limit_val_batches=0,
        num_sanity_val_steps=0,
        gradient_clip_val=1.0,
        callbacks=[*_averaging(module.settings), TrainingProgress(0), LossGuard(0), SignalsBetweenSteps()],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    module.log = lambda *_, **__: None  # Lightning reads what is logged
    monkeypatch.setattr(LossGuard, "on_train_epoch_end", lambda *_: None)  # looks at values, once an epoch
    trainer.fit(module, datamodule=data)
    assert trainer.global_step == 2 and next(module.parameters()).device.type == "meta"


# --- Several processes, devices and their memory ------------------------------------------------------
def test_batches_are_counted_over_all_processes(words):
    """Five steps of four processes, then three of two: a third run begins with batch 26."""
    _, _, data = parts_of(words)
    processes = {"global_rank": 0, "world_size": 4}
    data.trainer = SimpleNamespace(**processes, global_step=5)
    saved = data.state_dict()
    assert saved == {"steps_done": 5, "batches_done": 20}
    data.load_state_dict(saved)
    data.trainer = SimpleNamespace(**processes | {"world_size": 2}, global_step=8)
    assert next(iter(data.train_dataloader().sampler)) == 20
    assert data.state_dict() == {"steps_done": 8, "batches_done": 26}
    data.load_state_dict({"steps_done": 5})  # of an earlier version
    assert data.state_dict() == {"steps_done": 8, "batches_done": 16}


def broadcasting(monkeypatch, rank, sent):
    """Of a run of several processes the one of this rank; what the first one sends comes to all."""

    def broadcast(value):
        sent[:] = [value] if rank == 0 else sent
        return sent[0]

    trainer = SimpleNamespace(is_global_zero=rank == 0, strategy=SimpleNamespace(broadcast=broadcast))
    monkeypatch.setattr(DetectionModule, "trainer", trainer)


def test_where_validation_fails_all_processes_end(words, monkeypatch):
    _, module, _ = parts_of(words)
    sent = []
    broadcasting(monkeypatch, 0, sent)
    with mock.patch.object(module, "_validate", side_effect=RuntimeError("no room")), pytest.raises(RuntimeError):
        module.validation_step({"volume": None}, 0)
    broadcasting(monkeypatch, 1, sent)
    with pytest.raises(InputError, match="validation failed in the first process: RuntimeError: no room"):
        module.validation_step({"volume": None}, 0)


@pytest.mark.parametrize(("device", "fastest"), [("cpu", False), ("cuda", True)])
def test_kernels_are_tried_out_on_a_gpu(words, monkeypatch, tmp_path, device, fastest):
    class Made(Exception):
        pass

    def trainer(**options):
        raise Made(options["benchmark"])

    monkeypatch.setattr(pl, "Trainer", trainer)
    with pytest.raises(Made, match=str(fastest)):
        start_fold(words, tmp_path, Hardware(device))


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory. Tried"), MemoryError()])
def test_out_of_memory_is_one_line_that_says_what_to_lower(words, monkeypatch, tmp_path, error):
    monkeypatch.setattr(DetectionModule, "training_step", failing(error))
    with pytest.raises(MachineError) as stop:
        start_fold(words, tmp_path, Hardware())
    assert str(stop.value) == "fold 0: out of memory; lower --batch_size (now 2) or --patch_size (now 16 24 32)"


def test_other_errors_stay_what_they_are(words, monkeypatch, tmp_path):
    monkeypatch.setattr(DetectionModule, "training_step", failing(RuntimeError("a bug")))
    with pytest.raises(RuntimeError, match="a bug"):
        start_fold(words, tmp_path, Hardware())


def failing(error):
    def training_step(self, batch, batch_idx):
        raise error

    return training_step


def start_fold(words, tmp_path, machine):
    args = train.build_parser().parse_args([*words, "--epochs", "1", "--steps_per_epoch", "1"])
    source, settings = volume_source(args), training_settings(args)
    fold, places = train.load_folds(source, train.read_labels(source))[0], {"experiment_dir": tmp_path / "experiment"}
    return train_fold(fold, source=source, particles=PARTICLES, settings=settings, hardware=machine, **places)


# --- Many tomograms -----------------------------------------------------------------------------------
@pytest.fixture
def many(tmp_path):
    """A command line on eight runs of noise."""
    for seed in range(8):
        tiny_campaign.write_run(tmp_path / "data", f"TS_{seed}", seed)
    return ["--data_root", str(tmp_path / "data"), "--cache_dir", str(tmp_path / "cache"), *QUICK]


def test_folds_are_dealt_and_named_ones_are_held_out(many, tmp_path, capsys):
    steps = ["--epochs", "2", "--validate_every", "2", "--steps_per_epoch", "1", "--output_dir", str(tmp_path / "out")]
    train.main([*many, *steps, "--num_folds", "3", "--seed", "4", "--experiment_name", "three"])
    results = finished_folds(tmp_path / "out" / "three")
    dealt = deal_runs([f"TS_{seed}" for seed in range(8)], 3, seed=4)
    assert [results[index].validation_runs for index in range(3)] == dealt
    for index, held_out in enumerate(dealt):
        description = read_description(tmp_path / "out" / "three" / results[index].checkpoint)
        assert set(description.training_runs) == {f"TS_{seed}" for seed in range(8)} - set(held_out)
    train.main([*many, *steps, "--validation_runs", "TS_5", "TS_2", "--experiment_name", "named"])
    assert finished_folds(tmp_path / "out" / "named")[0].validation_runs == ("TS_2", "TS_5")
    assert "fold 0: 6 training tomograms, held out TS_2, TS_5" in capsys.readouterr().out
    train.main([*many, *steps, "--validation_runs", "TS_2", "TS_5", "--experiment_name", "named"])  # in any order
    assert "fold 0: finished before" in capsys.readouterr().out
    with pytest.raises(InputError, match=r"--num_folds 3, not 4"):
        train.main([*many, *steps, "--num_folds", "4", "--seed", "4", "--experiment_name", "three"])


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        (["--epochs", "5", "--validate_every", "2"], "--epochs 5 is not a multiple of --validate_every 2.* --epochs 6"),
        (["--num_folds", "3", "--validation_runs", "TS_1"], "exclude each other"),
        (["--num_folds", "9"], "--num_folds must be from 2 to the number of runs with picks, 8; got 9"),
        (["--num_folds", "3", "--fold", "3"], "fold 3 does not exist: .* gives folds 0 to 2"),
        (["--validation_runs", "TS_9"], "no such training run"),
    ],
)
def test_folds_that_cannot_be(many, tmp_path, flags, text):
    with pytest.raises(InputError, match=text):
        train.main([*many, *flags, "--output_dir", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("workers", [0, 1])
def test_a_tomogram_that_cannot_be_read_is_one_line_from_any_process(many, tmp_path, workers):
    path = next((tmp_path / "data").rglob("TS_3/**/denoised.mrc"))
    with mrcfile.open(path, mode="r+") as file:
        file.data[2, 3, 4] = np.nan
    words = [*many, "--num_workers", str(workers), "--steps_per_epoch", "30", "--epochs", "1", "--fold", "0"]
    with pytest.raises(InputError, match=r"^\S+denoised.mrc: 1 voxels are NaN or infinite.*repair the tomogram$"):
        train.main([*words, "--output_dir", str(tmp_path / "out")])


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="counts the open files of Linux")
def test_cut_tomograms_leave_no_file_open(many):
    fold, _, data = parts_of(many)
    before = len(list(Path("/proc/self/fd").iterdir()))
    data.trainer = SimpleNamespace(global_rank=0, world_size=1)
    for _ in zip(range(10), data.train_dataloader(), strict=False):
        pass
    assert len(list(Path("/proc/self/fd").iterdir())) == before and len(fold.training) == 7
