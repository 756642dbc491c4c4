"""A data set on disk in which no two sides are equal and every grey value names its label."""

import mrcfile
import numpy as np

from data.picks import write_picks
from data.training_volume import VolumeSource
from inference.settings import InferenceSettings
from particle_config import PARTICLES
from training.arguments import detection_defaults, validation_grids
from training.settings import TrainingSettings

SHAPE = (24, 40, 56)
SPACING = 15.0
RADIUS_FRACTION = 0.5
# Run -> particle -> voxels (z, y, x); read as (x, y, z) they lie elsewhere.
CENTRES = {
    "TS_1": {"ribosome": [(7, 12, 40), (15, 29, 12)], "apo-ferritin": [(18, 8, 22)], "thyroglobulin": [(11, 28, 30)]},
    "TS_2": {"ribosome": [(9, 31, 45)], "apo-ferritin": [(5, 9, 10), (19, 20, 31)], "thyroglobulin": [(15, 10, 46)]},
}


def write(root, spacing=SPACING):
    """The training tree, protein dark: a voxel within half a particle's radius has the grey value -label."""
    for seed, (run, centres) in enumerate(CENTRES.items()):
        grey = np.random.default_rng(seed).uniform(-0.01, 0.01, SHAPE).astype(np.float32)
        for particle in PARTICLES:
            points = np.array(centres.get(particle.name, np.empty((0, 3))), dtype=float)
            for point in points:
                distance = np.linalg.norm(np.moveaxis(np.indices(SHAPE), 0, -1) - point, axis=-1)
                grey[distance <= RADIUS_FRACTION * particle.radius_angstrom / spacing] = -particle.label
            path = root / "train" / "overlay" / "ExperimentRuns" / run / "Picks" / f"{particle.name}.json"
            write_picks(path, particle_name=particle.name, run_name=run, coordinates_zyx_angstrom=points * spacing)
        folder = root / "train" / "static" / "ExperimentRuns" / run / f"VoxelSpacing{spacing:.3f}"
        folder.mkdir(parents=True)
        with mrcfile.new(folder / "denoised.mrc") as file:
            file.set_data(grey)
            file.voxel_size = spacing
    return root


def source_of(root, **changes):
    values = {
        "data_root": root,
        "mask_root": root / "mask",
        "tomo_types": ("denoised",),
        "radius_fraction": RADIUS_FRACTION,
        "norm_percentiles": (0.0, 100.0),
        "particles": PARTICLES,
        "cache_dir": root / "cache",
    }
    return VolumeSource(**{**values, **changes})


def settings(**changes):
    """Of a training of two steps."""
    values = {
        "encoder_name": "deepfinder2",
        "norm_type": "batch",
        "output_stride": 2,
        "dropout": 0.2,
        "patch_size_zyx": (16, 24, 32),
        "epochs": 1,
        "validate_every": 1,
        "steps_per_epoch": 2,
        "batch_size": 2,
        "learning_rate": 1e-3,
        "weight_decay": 0.0,
        "gradient_clip": 1.0,
        "use_scheduler": True,
        "warmup_steps": 1,
        "averaging": "none",
        "ema_decay": 0.9,
        "swa_start_fraction": 0.5,
        "swa_rate_fraction": 0.1,
        "loss_type": "ce_tversky",
        "class_loss_weights": (1.0,) * 7,
        "gradnorm_learning_rate": None,
        "background_fraction": 0.1,
        "augmentation_level": "base",
        "augmentation_mode": "anisotropic",
        "tilt_axis": "y",
        "mixup_prob": 0.0,
        "precision": "fp32",
        "seed": 1,
        "inference": InferenceSettings((16, 24, 32), 0.25, "gaussian", 1, "none", "fp32"),
        "validation_grids": validation_grids(),
        "detection_defaults": detection_defaults(),
    }
    return TrainingSettings(**{**values, **changes})
