"""How many epochs fit into the time that a training may take, and how often is validated."""

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

# Of the steps that would fit without validations, so many must be left where nobody says how often is validated.
STEPS_LEFT = 0.9
# Of a rehearsal, on the user's data and device. The first epoch is slower: workers start, kernels are tried.
EPOCHS, STEPS = 3, 8


@dataclass(frozen=True)
class Pace:
    """Seconds that a training step takes, and a validation."""

    step: float
    validation: float

    def epochs_in(self, seconds: float, *, steps_per_epoch: int, validate_every: int | None = None) -> tuple[int, int]:
        """Epochs that fit, and after how many of them is validated; the former is a multiple of the latter.

        Parameters
        ----------
        seconds : for one fold
        validate_every : epochs; None: as often as leaves STEPS_LEFT of the steps

        Raises
        ------
        InputError : not one validation fits
        """
        epoch = steps_per_epoch * self.step
        least = epoch * (validate_every or 1) + self.validation
        if seconds < least:
            raise InputError(
                f"--minutes: {steps_per_epoch * (validate_every or 1)} steps and a validation take "
                f"{least / 60:.1f} minutes, and {seconds / 60:.1f} are there for each fold; give more, fewer folds "
                "(--fold, --num_folds) or fewer --steps_per_epoch"
            )

        def fitting(every: int) -> int:
            return every * int(seconds / (every * epoch + self.validation))

        if validate_every is None:
            epochs = {every: fitting(every) for every in range(1, int(seconds / epoch) + 1)}
            enough = STEPS_LEFT * max(epochs.values())
            validate_every = next(every for every, number in epochs.items() if number >= enough)
        return fitting(validate_every), validate_every


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
