"""An experiment is a folder: checkpoints, args.json, the metrics and result of every fold, thresholds.json."""

import json
import os
import time
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from pytorch_lightning.utilities import rank_zero_only

from data.files import atomic_path
from data.locks import Held, locked
from data.number_ranges import COUNT
from data.text_files import read_json_object
from data.thresholds import write_thresholds
from data.training_volume import check_same_content
from errors import InputError
from inference.checkpoint_files import read_checkpoint_file
from inference.checkpoints import read_description
from particle_config import TABLE_SOURCE, Particle
from training.schedule import Schedule
from training.settings import TrainingSettings
from training.slurm import started_by_slurm

# All processes of a run write into one folder; those that it starts itself learn its name by this variable.
RUN_ID_VARIABLE = "ETFINDER_RUN_ID"
# Processes that cut patches outlive a training that was killed by five seconds, and its lock with them.
LOCK_SECONDS = 10
# In args.json: command and versions of each call that worked on the experiment.
MADE_WITH = "made_with"
# Where args.json is damaged.
RESTORE = "restore it, or start another experiment"


@dataclass(frozen=True)
class FoldResult:
    """The best generalist of a fold (its file name) and its weighted F4 on the held-out runs."""

    fold: int
    validation_runs: tuple[str, ...]
    checkpoint: str
    f4: float
    hyperparameters: dict
    calibrated_with: dict | None = None  # None: of an earlier version

    @classmethod
    def read(cls, path: Path) -> "FoldResult":
        """Of a result.json, also of a version that held out one run by fold; InputError where it is damaged."""
        values = read_json_object(path)
        if "validation_runs" not in values:
            values["validation_runs"] = [values.pop("validation_run", None)]
        kinds = {"fold": int, "checkpoint": str, "f4": int | float, "hyperparameters": dict, "validation_runs": list}
        if not all(isinstance(values.get(name), kind) for name, kind in kinds.items()):
            raise InputError(f"{path} is damaged; remove it, and the fold is finished again")
        known = {field.name: values[field.name] for field in fields(cls) if field.name in values}
        return cls(**{**known, "validation_runs": tuple(values["validation_runs"])})


def fold_dir(experiment_dir: Path, fold: int) -> Path:
    return experiment_dir / f"fold_{fold}"


def result_path(experiment_dir: Path, fold: int) -> Path:
    return fold_dir(experiment_dir, fold) / "result.json"


def automatic_name(encoder_name: str, comment: str) -> str:
    """Encoder, comment and time, or the id of a SLURM job: the tasks of an array share it, a requeued job keeps it."""
    return "_".join([encoder_name, *([comment] if comment else []), _run_id()])


def open_experiment(
    folder: Path, arguments: Mapping[str, Any], check: Callable[[], None], made_with: Mapping[str, Any]
) -> None:
    """Write down the arguments of a new experiment, or ``check`` them against those that are there.

    ``made_with`` (command and versions) is added to what worked on it before.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / ".lock"):  # of two that start at once, one is the second
        check()
        path = folder / "args.json"
        content = read_json_object(path, advice=RESTORE) if path.is_file() else _as_json(arguments)
        before = content.get(MADE_WITH, [])
        if made_with not in before:
            _write_json(path, {**content, MADE_WITH: [*before, made_with]})


def saved_schedule(folder: Path) -> Schedule | None:
    """Of the experiment in a folder; None where there is none yet."""
    path = folder / "args.json"
    if not path.is_file():
        return None
    saved = read_json_object(path, advice=RESTORE)
    for name in Schedule._fields:
        if (value := saved.get(name)) not in COUNT:
            raise InputError(f"{path}: damaged ({name} {value!r}); {RESTORE}")
    return Schedule(*(saved[name] for name in Schedule._fields))


def check_same_arguments(
    folder: Path,
    arguments: Mapping[str, Any],
    ignored: Sequence[str],
    advice: str,
    complete: Callable[[dict], Mapping[str, Any]] = dict,
    constants: Collection[str] = (),
) -> None:
    """InputError when the experiment in a folder was started with other arguments, but for those ``ignored``.

    ``complete`` adds to arguments that were read what earlier versions did not write; ``constants`` are those that are
    no flags.
    """
    path = folder / "args.json"
    if not path.is_file():
        return
    saved, now = read_json_object(path, advice=RESTORE), _as_json(arguments)
    try:
        before = _as_json(complete(saved))
    except (TypeError, ValueError, AttributeError, KeyError) as error:
        raise InputError(f"{path}: damaged ({error}); {RESTORE}") from error
    for name in sorted({*now, *before} - set(ignored)):
        if now.get(name) != before.get(name):
            what = f"{name} in config.py or {TABLE_SOURCE}:" if name in constants else f"--{name}"
            raise InputError(f"{folder} is of a run with {what} {before.get(name)}, not {now.get(name)}; {advice}")


def check_same_runs(folder: Path, runs: Mapping[str, str], data_root: Path) -> None:
    """InputError when the experiment in a folder was started on other runs (name -> data.training_volume.run_content).

    Experiments of earlier versions do not say on which.
    """
    path = folder / "args.json"
    before = read_json_object(path, advice=RESTORE).get("runs") if path.is_file() else None
    if before is not None:
        if not isinstance(before, dict):
            raise InputError(f"{path}: damaged (runs is no table); {RESTORE}")
        advice = "give the --data_root that it was started on, or start another experiment"
        check_same_content(before, runs, f"{data_root} is not what {folder} was trained on", advice)


@contextmanager
def holding_fold(experiment_dir: Path, fold: int) -> Iterator[None]:
    """Keep a fold for this run until the block ends; InputError when another one trains it.

    The lock goes with the process that holds it, however that ends.
    """
    if rank_zero_only.rank:  # the first process holds it for all
        yield
        return
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(fold_dir(experiment_dir, fold) / ".lock", timeout=LOCK_SECONDS))
        except Held as holder:
            raise InputError(
                f"another process is training fold {fold} of {experiment_dir}: {holder}; wait for it, or choose "
                "another fold or name"
            ) from None
        yield


def _run_id() -> str:
    if RUN_ID_VARIABLE in os.environ:
        return os.environ[RUN_ID_VARIABLE]
    if started_by_slurm():
        return os.environ.get("SLURM_ARRAY_JOB_ID") or os.environ["SLURM_JOB_ID"]
    return time.strftime("%Y%m%d_%H%M%S")


def share_run_id() -> None:
    """Let the processes that Lightning is about to start write into the folder of this one."""
    os.environ[RUN_ID_VARIABLE] = _run_id()


def finished_folds(experiment_dir: Path) -> dict[int, FoldResult]:
    """The results that the experiment holds, by fold; a damaged one counts as none, and is made again."""
    found = {}
    for path in sorted(experiment_dir.glob("fold_*/result.json")):
        try:
            result = FoldResult.read(path)
            found[result.fold] = result
        except InputError:
            warnings.warn(f"{path} is damaged and made again", stacklevel=2)
    return found


def write_result(experiment_dir: Path, result: FoldResult, particles: Sequence[Particle]) -> None:
    """The fold's result.json, and thresholds.json anew: the hyperparameters chosen on the held-out runs of each."""
    with locked(experiment_dir / ".lock"):  # folds of a job array end when they like
        _write_json(result_path(experiment_dir, result.fold), asdict(result))
        _write_thresholds(experiment_dir, particles)


def complete_thresholds(experiment_dir: Path, particles: Sequence[Particle]) -> None:
    """Write thresholds.json where a run was killed between a fold's result.json and it, or where it is damaged."""
    with locked(experiment_dir / ".lock"):
        _write_thresholds(experiment_dir, particles)


def _write_thresholds(experiment_dir: Path, particles: Sequence[Particle]) -> None:
    content = {
        f"fold_{fold}": {name: value for name, value in asdict(one).items() if name != "fold"}
        for fold, one in sorted(finished_folds(experiment_dir).items())
    }
    write_thresholds(experiment_dir / "thresholds.json", content, particles)


def experiment_of(checkpoint: Path) -> Path:
    """The experiment that a checkpoint lies in; those that SLURM asked for lie in the folder of their fold."""
    return checkpoint.parent.parent if checkpoint.name.startswith("hpc_ckpt") else checkpoint.parent


def forget_result(experiment_dir: Path, fold: int) -> None:
    """A fold that is trained on is not finished."""
    result_path(experiment_dir, fold).unlink(missing_ok=True)


def check_resumable(
    path: Path,
    settings: TrainingSettings,
    tomo_type: str,
    run_names: Collection[str],
    held_out: Sequence[Collection[str]],
    extra_names: Collection[str] = (),
) -> int:
    """The fold that a checkpoint belongs to; InputError when this run cannot go on from it.

    ``held_out`` are the runs that each fold of this run holds out, of all ``run_names``; ``extra_names`` those of other
    data.
    """
    saved = read_description(path)
    this = f"--resume_from_checkpoint {path}"
    for flag, wanted in (
        ("encoder_name", settings.encoder_name),
        ("norm_type", settings.norm_type),
        ("output_stride", settings.output_stride),
    ):
        before = saved.architecture.get(flag, 1)
        if before != wanted:
            raise InputError(f"{this} was trained with --{flag} {before}, not {wanted}; give the same")
    if saved.tomo_types[0] != tomo_type:
        raise InputError(f"{this} was validated on {saved.tomo_types[0]} tomograms, not on {tomo_type}")
    before = set(saved.validation_runs)
    if saved.fold >= len(held_out) or not before <= set(held_out[saved.fold]):
        raise InputError(
            f"{this} held out {', '.join(sorted(before))}, which is not fold {saved.fold} of this data root; "
            "give the same --data_root, --num_folds, --validation_runs and --seed"
        )
    others = (set(run_names) - set(held_out[saved.fold])) | (set(extra_names) - set(run_names))
    if saved.training_runs is not None and set(saved.training_runs) != others:
        changed = ", ".join(sorted(set(saved.training_runs) ^ others))
        raise InputError(f"{this} was trained on other runs: {changed}; give the same --data_root and --mask_dir")
    checkpoint = read_checkpoint_file(path, mmap=True)
    if not {"optimizer_states", "global_step"} <= checkpoint.keys():
        raise InputError(f"{this} holds the weights alone; resume from {path.parent / f'fold_{saved.fold}-last.ckpt'}")
    steps = checkpoint["global_step"]
    if steps >= settings.total_steps and saved.fold in finished_folds(experiment_of(path)):
        raise InputError(f"{this} has {steps} steps behind it; for more, give --epochs above {settings.epochs}")
    return saved.fold


def _as_json(content: Mapping[str, Any]) -> dict[str, Any]:
    return json.loads(json.dumps(dict(content), default=str))


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2, default=str) + "\n", encoding="utf-8")
