"""Defaults of every command-line flag, each with its unit or its reason.

Read only where a parser is built; nothing assigns to it. Precedence: command line, then what the trained
experiment saved (evaluation only), then this file. Paths can also come from the environment.
"""

import os
from pathlib import Path

# --- Paths --------------------------------------------------------------------------------------------
# Training tree (holds train/static/ExperimentRuns); the default is what make_phantom_dataset.py writes.
CZI_DATA_ROOT = Path(os.environ.get("ETFINDER_CZI_DATA_ROOT", "phantom"))
# Public evaluation tree in the layout of the CryoET Data Portal (holds {run}/Reconstructions).
CZI_PUBLIC_EVAL_DATA_ROOT = Path(os.environ.get("ETFINDER_PUBLIC_EVAL_DATA_ROOT", "phantom/public"))
# Where checkpoints/ and results/ are written.
OUTPUT_ROOT = Path(os.environ.get("ETFINDER_OUTPUT_ROOT", "."))

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
