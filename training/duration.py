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
from training.schedule import Schedule
from training.settings import TrainingSettings

# Of the steps that would fit without validations, so many must be left where nobody says how often is validated.
STEPS_LEFT = 0.9
# Of a rehearsal, on the user's data and device. The first epoch is slower: workers start, kernels are tried.
EPOCHS, STEPS = 3, 8
# Of a number of epochs or steps that just fits.
ROUNDING = 1e-6


@dataclass(frozen=True)
class Pace:
    """Seconds that a training step takes, and a validation."""

    step: float
    validation: float

    def schedule(
        self, seconds: float, *, usual_steps: int, steps_per_epoch: int | None = None, validate_every: int | None = None
    ) -> Schedule:
        """As many epochs as fit, a multiple of how often is validated.

        Parameters
        ----------
        seconds : for one fold
        usual_steps : of an epoch, where ``steps_per_epoch`` is None: epochs are then a little longer, up to twice as
            long, so that no time is left, or shorter where not one of them fits
        validate_every : epochs; None: as often as leaves STEPS_LEFT of the steps

        Raises
        ------
        InputError : no epoch with a validation fits, of STEPS steps where ``steps_per_epoch`` is None
        """
        between = validate_every or 1
        room = int((seconds - self.validation) / (between * self.step) + ROUNDING)
        steps = steps_per_epoch or max(min(usual_steps, room), STEPS)
        if room < steps:
            least = between * steps * self.step + self.validation
            raise InputError(
                f"--minutes: {between * steps} steps and a validation take {least / 60:.1f} minutes, and "
                f"{seconds / 60:.1f} are there for each fold; give more, fewer folds (--fold, --num_folds) or "
                "fewer --steps_per_epoch"
            )

        def fitting(every: int) -> int:
            return every * int(seconds / (every * steps * self.step + self.validation) + ROUNDING)

        if validate_every is None:
            epochs = {every: fitting(every) for every in range(1, int(seconds / (steps * self.step)) + 1)}
            enough = STEPS_LEFT * max(epochs.values())
            validate_every = next(every for every, number in epochs.items() if number >= enough)
        epochs = fitting(validate_every)
        if steps_per_epoch is None:
            steps = int((seconds - epochs // validate_every * self.validation) / (epochs * self.step) + ROUNDING)
        return Schedule(epochs, validate_every, steps)


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
