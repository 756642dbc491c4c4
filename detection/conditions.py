"""What confidences hold for: maps that are made and searched like those that they were learnt on.

A calibration turns scores into confidences. Other views, another kind of tomogram, a coarser map or other
hyperparameters give other scores to the same candidates, so that it does not hold for them. For the mean over several
networks it does (BENCHMARKS.md), and must: each tomogram with truth is one that most of them were trained on.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from data.thresholds import Hyperparameters
from inference.checkpoints import Description
from inference.settings import InferenceSettings
from metrics.calibration import KEYWORDS
from tta.orientations import ORIENTATIONS, turned

Conditions = Mapping[str, Any]


def map_conditions(
    inference: InferenceSettings,
    *,
    tomo_type: str,
    norm_percentiles: Sequence[float] | None,
    trained_radius_fraction: float,
    internal_downsample: int = 1,
    networks: int = 1,
    match_spectrum: str = "off",
) -> dict[str, Any]:
    """As plain values that come back equal from JSON and checkpoints.

    Windows, their overlap and the precision are not among them: they change probabilities by far less.
    """
    views = ORIENTATIONS[inference.tta_group]
    return {
        "views": inference.tta_group,
        "beam": "z" if turned(views, inference.tilt_axis) == views else "y",
        "merge": inference.tta_merge if networks * len(views) > 1 else "probability",
        "tomo_type": tomo_type,
        "norm_percentiles": None if norm_percentiles is None else list(norm_percentiles),
        "radius_fraction": trained_radius_fraction,
        "internal_downsample": internal_downsample,
        # Tomograms like those that the confidences were learnt on are left alone unless all are to be matched.
        **({"match_spectrum": match_spectrum} if match_spectrum == "on" else {}),
    }


def training_conditions(description: Description) -> Conditions:
    """Of the validation that found a network's hyperparameters; before it was written down, there were no views."""
    if description.calibrated_with is not None:
        return description.calibrated_with
    without_views = InferenceSettings("train", 0.0, "gaussian", None, "none", "fp32")
    return map_conditions(
        without_views,
        tomo_type=description.tomo_types[0],
        norm_percentiles=description.norm_percentiles,
        trained_radius_fraction=description.radius_fraction,
    )


def found_in_training(description: Description, conditions: Conditions | None) -> Hyperparameters:
    """What a network's validation found, calibrations only where they hold under the conditions; None: all of them."""
    if conditions is None or training_conditions(description) == conditions:
        return description.hyperparameters
    return {
        method: {name: without_calibration(values) for name, values in table.items()}
        for method, table in description.hyperparameters.items()
    }


def without_calibration(values: Mapping[str, float]) -> dict[str, float]:
    return {keyword: value for keyword, value in values.items() if keyword not in KEYWORDS}


def differences(learnt: Conditions, now: Conditions) -> str:
    """``views none, not d2h``, and what else is not the same."""
    differ = [name for name in now if learnt.get(name) != now[name]]
    return ", ".join(f"{name.replace('_', ' ')} {learnt.get(name)}, not {now[name]}" for name in differ)
