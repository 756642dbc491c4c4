"""How long a run is, and the learning rate over it."""

import math
from typing import NamedTuple

# The warm-up starts at this share of the full rate.
WARMUP_START_FRACTION = 0.05


class Schedule(NamedTuple):
    """Epochs, after how many of them is validated, and the optimizer steps of each; named as the flags."""

    epochs: int
    validate_every: int
    steps_per_epoch: int


def learning_rate_factor(
    step: int, total_steps: int, warmup_steps: int, floor: float = 0.0, floor_from_step: int | None = None
) -> float:
    """Share of the initial learning rate at a step: linear warm-up, then a cosine down to ``floor``.

    A function of the step alone, so that a run resumed with more epochs follows the longer schedule.

    Parameters
    ----------
    step : optimizer steps taken so far
    total_steps : of the run; the warm-up takes a tenth of them at most
    floor : share reached at ``floor_from_step`` (default: at the end) and held from there on
    """
    warmup = max(1, min(warmup_steps, total_steps // 10))
    if step < warmup:
        return WARMUP_START_FRACTION + (1 - WARMUP_START_FRACTION) * step / warmup
    end = total_steps if floor_from_step is None else floor_from_step
    progress = min(1.0, (step - warmup) / max(1, end - warmup))
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress))
