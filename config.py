"""Defaults of every command-line flag, each with its unit or its reason.

Read only where a parser is built; nothing assigns to it. Precedence: command line, then what the trained
experiment saved (evaluation only), then this file. Paths can also come from the environment.
"""

import os
from pathlib import Path

# --- Paths --------------------------------------------------------------------------------------------
# Training tree (holds train/static/ExperimentRuns); the default is what make_phantom_dataset.py writes.
CZI_DATA_ROOT = Path(os.environ.get("ETFINDER_CZI_DATA_ROOT", "phantom")).expanduser()
# Public evaluation tree in the layout of the CryoET Data Portal (holds {run}/Reconstructions).
CZI_PUBLIC_EVAL_DATA_ROOT = Path(os.environ.get("ETFINDER_PUBLIC_EVAL_DATA_ROOT", "phantom/public")).expanduser()
# Where checkpoints/ and results/ are written.
OUTPUT_ROOT = Path(os.environ.get("ETFINDER_OUTPUT_ROOT", ".")).expanduser()
# Normalised tomograms, 4 bytes per voxel; can be deleted at any time.
CACHE_DIR = Path(os.environ.get("ETFINDER_CACHE_DIR", OUTPUT_ROOT / "cache")).expanduser()

# --- Data ---------------------------------------------------------------------------------------------
# One type is drawn per training patch; the first is the one validated and evaluated on.
TRAINING_TOMO_TYPES = ("denoised",)
# Sphere targets of half the radius: the accepted position error, and what Tversky-like losses learn best.
RADIUS_FRACTION = 0.5
# Clip range in percent of the tomogram's voxels: gold and reconstruction artefacts lie outside.
NORM_LOWER_PERCENTILE = 0.5
NORM_UPPER_PERCENTILE = 99.5

# --- Phantom (make_phantom_dataset.py) ----------------------------------------------------------------
PHANTOM_SHAPE = (184, 630, 630)  # voxels Z Y X, the size of a CZI tomogram
PHANTOM_VOXEL_SPACING = 10.012  # angstrom
PHANTOM_NUM_TRAIN = 4
PHANTOM_NUM_EVAL = 2
PHANTOM_TILT_RANGE = 60.0  # degrees to either side
PHANTOM_TILT_STEP = 3.0  # degrees
PHANTOM_DEFOCUS = 30000.0  # angstrom underfocus, typical of the field
PHANTOM_NOISE = 1.0  # 1 = about as hard as real tomograms of this kind

# --- Network ------------------------------------------------------------------------------------------
ENCODER_NAME = "deepfinder2"  # a million parameters suffice
NORM_TYPE = "batch"
DROPOUT = 0.0  # of deepfinder2; with 0.2 a step takes longer, and F4 was not higher (BENCHMARKS.md)
OUTPUT_STRIDE = 2  # maps of half the resolution: more steps in the same time, better on average (BENCHMARKS.md)

# --- Training -----------------------------------------------------------------------------------------
# Where no sizes are given: smaller where the tomograms or the GPU's memory are too small for them.
PATCH_SIZE = (64, 64, 64)  # voxels Z Y X; trains on a laptop
BATCH_SIZE = 4
GPU_PATCH_SIZE = (128, 128, 128)  # eight times the voxels a step
STEPS_PER_EPOCH = 100  # an epoch is a number of batches, since patches are drawn without end
EPOCHS = 20
VALIDATE_EVERY = 1  # epochs
LEARNING_RATE = 2e-3  # AdamW, the start of a cosine decay
WEIGHT_DECAY = 1e-2
GRADIENT_CLIP = 1.0  # norm
USE_SCHEDULER = True  # cosine decay to 0 after WARMUP_STEPS
WARMUP_STEPS = 50
USE_EMA = True
EMA_DECAY = 0.999  # per optimizer step; lower in the first thousand steps, see training/averaging.py
USE_SWA = False
SWA_START_FRACTION = 0.75  # of the run, as in the method's paper
SWA_RATE_FRACTION = 0.1  # of the learning rate, held while the weights are averaged: at 0 they would not move
USE_GRADNORM = False
GRADNORM_LR = 1e-3
LOSS_TYPE = "ce_tversky"
LABEL_SMOOTHING = 0.0  # of the cross-entropy; with 0.1 F4 was lower (BENCHMARKS.md)
SINGLE_VOXEL_LOSS_TYPE = "ce"  # single voxels have no overlap to speak of
SINGLE_VOXEL_LOSS_WEIGHT = 128.0  # of every particle, background 1: the recipe of the best public solution
BACKGROUND_FRACTION = 0.15  # share of patches placed anywhere: teaches what is no particle
AUGMENTATION_LEVEL = "base"
AUGMENTATION_MODE = "anisotropic"
EXTRA_SHARE = 0.5  # of the patches, once there are other data to cut them from
FILTER_PROB = 0.0  # of each patch, to be filtered as other programs would
USE_MIXUP = False
MIXUP_PROB = 0.5  # of each patch, once mixup is switched on
TRAINING_PRECISION = "bf16"  # half the time of fp32, also on CPUs that have it; see inference.device.usable_precision
SEED = 0
NUM_WORKERS = 2  # processes that cut patches for a GPU
WANDB_MODE = "disabled"

# --- Validation and inference -------------------------------------------------------------------------
INFERENCE_WINDOW = "auto"  # the largest that pays within --max_memory_gb
# What windows may take, in 10^9 bytes. Fixed, so that results do not depend on what happens to be free: as much as a
# laptop with 16 GB has to spare, or a GPU with 12 GB. Where less is free, windows are smaller, and a line says so.
CPU_MEMORY_GB = 8.0
GPU_MEMORY_GB = 10.0
VALIDATION_WINDOW = (128, 128, 128)  # voxels Z Y X, cut to the tomogram; fixed: scores must not depend on free memory
MATCH_SPECTRUM = "auto"  # filter tomograms of another filter to match: .13 to .64 at best, and no loss (BENCHMARKS.md)
SW_OVERLAP = 0.25  # share of the window
# Voxels; of larger windows a smaller share is enough: 20 voxels from where it ends, a trained deepfinder2 predicts as
# if the window went on (probability off by 0.003 rms; by 0.09 at the border itself).
SW_MAX_OVERLAP = 40
VALIDATION_SW_BATCH_SIZE = None  # views of windows per call; None: one on a CPU, on a GPU as many as keep it busy
BLEND_MODE = "gaussian"
TTA_MERGE = "probability"
TILT_AXIS = "y"  # the beam is then z
INFERENCE_PRECISION = "bf16"

# Of the class voxels that are searched at every validation; a search has more.
VALIDATION_CONF_THRESHOLDS = (0.25, 0.5)

# Probability maps that campaigns keep, in 10^9 bytes; beyond it the oldest go.
CACHE_LIMIT_GB = 100.0

# --- Post-processing ----------------------------------------------------------------------------------
POSTPROCESSING_METHOD = "peak_local_max_gpu"
# Peak height where neither the user nor the checkpoint names one.
PLM_GPU_PEAK_THRESH = 0.15
# Nearest neighbours of one class come as close as 1.65 radii (apo-ferritin).
NMS_RADIUS_FRACTION = 0.8
CONF_THRESHOLD = 0.5
VOL_FRAC_THRESHOLD = 0.2
# Trained diameters between two watershed markers: half of one keeps touching particles apart, and a dent from
# splitting one.
WS_CLUSTER_RADIUS_FRACTION = 0.5
# A little wider than the targets: where a network predicts more than the sphere, a kernel that fits into the blob
# finds no single centre. Still two modes for two spheres that touch, which 1.5 makes one (BENCHMARKS.md).
MS_CLUSTER_RADIUS_FRACTION = 1.2
MIN_CLUSTER_VOL_FRAC = 0.2
RESOLVE_OVERLAPS = True  # F4 up to +.016, never less than -.001 (BENCHMARKS.md)

# --- Hyperparameter search (a list that is not given) -------------------------------------------------
# Thresholds cost nothing. Networks of weak predictions have their best peaks below 0.1, others above 0.8.
PLM_GPU_PEAK_THRESHS = (
    *(0.02, 0.03, 0.05, 0.07, 0.1, 0.13, 0.16, 0.2, 0.25, 0.3),
    *(0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.8, 0.9),
)
VOL_FRAC_THRESHOLDS = MIN_CLUSTER_VOL_FRACS = (0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0)
# Suppression costs little; nearest neighbours of one class are 1.65 radii apart.
NMS_RADIUS_FRACTIONS = (0.5, 0.7, 0.8, 0.9, 1.0, 1.2, 1.4)
# For each of these the map is searched again.
CONF_THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
WS_CLUSTER_RADIUS_FRACTIONS = (0.3, 0.5, 0.7)
MS_CLUSTER_RADIUS_FRACTIONS = (0.8, 1.0, 1.2, 1.5)
