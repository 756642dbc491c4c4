"""How many epochs fit into the time that a training may take."""

import contextlib
import io
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from errors import InputError
from training.experiment import fold_dir
from training.metrics_table import read_metrics
from training.settings import TrainingSettings

# Of a rehearsal, on the user's data and device. The first epoch is slower: workers start, kernels are tried.
EPOCHS, STEPS = 3, 8


@dataclass(frozen=True)
class Pace:
    """Seconds that a training step takes, and a validation."""

    step: float
    validation: float

    def epochs_in(self, seconds: float, settings: TrainingSettings) -> int:
        """As many as fit, a multiple of how often is validated; InputError where none do."""
        between = settings.validate_every * settings.steps_per_epoch * self.step + self.validation
        if seconds < between:
            raise InputError(
                f"--minutes: {settings.validate_every * settings.steps_per_epoch} steps and a validation take "
                f"{between / 60:.1f} minutes, and {seconds / 60:.1f} are there for each fold; give more, fewer folds "
                "(--fold, --num_folds) or fewer --steps_per_epoch"
            )
        return int(seconds / between) * settings.validate_every


def measured_pace(settings: TrainingSettings, fold: int, train: Callable[[TrainingSettings, Path], object]) -> Pace:
    """The pace of a short training of that fold, which leaves nothing behind.

    Parameters
    ----------
    train : trains the fold with the settings in a folder for its experiment
    """
    short = replace(settings, epochs=EPOCHS, steps_per_epoch=STEPS, validate_every=1)
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        train(short, Path(folder))
        metrics = read_metrics(fold_dir(Path(folder), fold) / "metrics.csv")
    # What disturbs a measurement only ever makes it longer.
    return Pace(metrics["seconds"].min() / STEPS, metrics["validation_seconds"].min())
