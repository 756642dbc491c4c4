"""An experiment is a folder: checkpoints, args.json, metrics of every fold, thresholds.json."""

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data.files import atomic_path
from training.run import FoldResult


def new_experiment(root: Path, encoder_name: str, comment: str, arguments: Mapping[str, Any]) -> Path:
    """A new folder named after encoder, comment and time, with the arguments of the run in it."""
    parts = [encoder_name, *([comment] if comment else []), time.strftime("%Y%m%d_%H%M%S")]
    folder = root / "_".join(parts)
    folder.mkdir(parents=True, exist_ok=True)
    _write_json(folder / "args.json", arguments)
    return folder


def write_thresholds(experiment_dir: Path, results: Sequence[FoldResult]) -> None:
    """thresholds.json: for every finished fold the hyperparameters chosen on its held-out tomogram."""
    content = {
        f"fold_{result.fold}": {
            "checkpoint": result.checkpoint.name,
            "validation_run": result.validation_run,
            "f4": result.f4,
            "hyperparameters": result.hyperparameters,
        }
        for result in results
    }
    _write_json(experiment_dir / "thresholds.json", content)


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2, default=str) + "\n", encoding="utf-8")
