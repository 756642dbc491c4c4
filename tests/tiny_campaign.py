"""A campaign so small that it takes a second or two: untrained networks on noise, with a few points for truth."""

import json
from unittest import mock

import mrcfile
import numpy as np
import torch

from data.picks import write_picks
from inference.checkpoints import KEY, NETWORK_PREFIX, Description
from models import build_model
from particle_config import PARTICLES

SHAPE = (24, 32, 32)
SPACING = 10.0
TRAINING, EVALUATED = ("TS_1", "TS_2"), ("TS_7", "TS_8")
NAMES = [particle.name for particle in PARTICLES]


def write_run(root, name, seed):
    """A tomogram of noise; two points of every particle."""
    rng = np.random.default_rng(seed)
    folder = root / "train" / "static" / "ExperimentRuns" / name / "VoxelSpacing10.000"
    folder.mkdir(parents=True)
    with mrcfile.new(folder / "denoised.mrc") as file:
        file.set_data(rng.normal(size=SHAPE).astype(np.float32))
        file.voxel_size = SPACING
    for particle in PARTICLES:
        path = root / "train" / "overlay" / "ExperimentRuns" / name / "Picks" / f"{particle.name}.json"
        points = rng.uniform(0, SPACING * np.array(SHAPE), size=(2, 3))
        write_picks(path, particle_name=particle.name, run_name=name, coordinates_zyx_angstrom=points)


def write_checkpoint(path, fold, seed, particles=PARTICLES):
    torch.manual_seed(seed)
    network = build_model("deepfinder2", num_classes=len(particles) + 1)
    with torch.no_grad():
        for name, weight in network.last_layer.named_parameters():
            weight.mul_(0.0 if name.endswith("bias") else 4.0)  # logits that differ from voxel to voxel
    description = Description(
        architecture={"encoder_name": "deepfinder2", "num_classes": len(particles) + 1, "norm_type": "batch"},
        particles=particles,
        patch_size_zyx=(32, 32, 32),
        norm_percentiles=(0.5, 99.5),
        radius_fraction=0.5,
        tomo_types=("denoised",),
        voxel_spacing_angstrom=SPACING,
        fold=fold,
        validation_runs=(TRAINING[fold],),
        training_runs=(TRAINING[1 - fold],),
        hyperparameters={},
        f4=0.5,
    )
    weights = {f"{NETWORK_PREFIX}{name}": value for name, value in network.state_dict().items()}
    torch.save({"state_dict": weights, KEY: description.as_plain()}, path)


def write_world(root, runs):
    """A network and tomograms of these names."""
    write_checkpoint(root / "network.ckpt", fold=0, seed=1)
    for seed, name in enumerate(runs):
        write_run(root / "public", name, seed)
    return root


def write_experiment(folder, data_root, seed, specialists=()):
    folder.mkdir(parents=True)
    (folder / "args.json").write_text(json.dumps({"data_root": str(data_root), "voxel_spacing": None}))
    for fold in (0, 1):
        (folder / f"fold_{fold}").mkdir()
        (folder / f"fold_{fold}" / "result.json").write_text("{}")
        for number, what in enumerate(("fscore", *specialists)):
            path = folder / f"fold_{fold}-best-{what}-epoch=1-f4=0.500.ckpt"
            write_checkpoint(path, fold, seed=100 * seed + 10 * fold + number)


def make(root):
    """Two experiments, of which df1 has specialists; two training tomograms, two to evaluate on."""
    for seed, name in enumerate(TRAINING):
        write_run(root / "data", name, seed)
    for seed, name in enumerate(EVALUATED, start=10):
        write_run(root / "public", name, seed)
    write_experiment(root / "checkpoints" / "df1", root / "data", 1, NAMES)
    write_experiment(root / "checkpoints" / "df2", root / "data", 2)
    return root


def command(root, *words, output="out", experiments=("df1", "df2")):
    """The flags of a campaign on it."""
    return [
        *("--experiments_dir", str(root / "checkpoints"), "--experiment_names", *experiments),
        *("--data_root", str(root / "public"), "--output_dir", str(root / output)),
        *("--cache_dir", str(root / "cache"), "--precision", "fp32", "--inference_window", "train", *map(str, words)),
    ]


def tables(folder):
    """Name -> bytes of all that must not depend on interruptions."""
    paths = [*folder.rglob("*.csv"), *folder.rglob("*/*.json")]
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(paths)}


def run_without_pictures(words):
    """The script, in much less time."""
    import run_experiment_evaluation as script

    with (
        mock.patch("evaluation.tuning.search.save_search_curves", lambda path, result: path.touch()),
        mock.patch.object(script, "write_campaign_report"),
    ):
        script.main(words)
