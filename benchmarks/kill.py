"""Kill every script at random moments, start it again, and compare what it leaves with an uninterrupted run.

    python -m benchmarks.kill --kills 100

A kill is a SIGKILL just before a random file operation of the script below its folders: opening to write, renaming,
removing, making a folder. The same command follows (train.py with --resume_from_checkpoint where there is a state to
resume from), and all files must be those of the uninterrupted run: bytes, or the values where a file holds times.
Untrained networks on small noise; all runs have one thread.
"""

from command_line import run_script

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import traceback
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
import pandas as pd
import starfile
import torch

import eval_public_czi
import import_dataset
import make_phantom_dataset
import pick_particles
import prepare_fullpublic_eval_annotations
import prepare_mask_czi
import run_experiment_evaluation
import train
from tests import tiny_campaign

SCRIPTS = (
    *(make_phantom_dataset, prepare_mask_czi, prepare_fullpublic_eval_annotations, import_dataset, train),
    *(eval_public_czi, pick_particles, run_experiment_evaluation),
)
# What a script does to files: names of Python's audit events, and which of their values are paths.
OPERATIONS = {"os.rename": (0, 1), "os.remove": (0,), "os.mkdir": (0,), "os.rmdir": (0,), "shutil.rmtree": (0,)}
WRITING = os.O_WRONLY | os.O_RDWR
# Values that say when, how fast, or by how many commands.
TIMES = ("seconds", "time", "date", "created", "command", "steps_per_second", "lock", "made_with")
# Files that hold nothing else, or pictures of it.
LEFT_OUT = (".lock", ".jsonl", "report.html", "learning_curves.png")


@dataclass(frozen=True)
class Case:
    """A script with the flags of a run below a folder.

    Attributes
    ----------
    words : folder of the run -> flags
    again : the same for the start after a kill
    """

    name: str
    main: Callable[[list[str]], None]
    words: Callable[[Path], Sequence[object]]
    again: Callable[[Path], Sequence[object]]


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.kill",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--kills", type=int, default=100, help="of all scripts together")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    names = [script.__name__ for script in SCRIPTS]
    parser.add_argument("--scripts", nargs="+", choices=names, default=names, help="that are killed")
    return parser


def main(argv: list[str] | None = None) -> None:
    args = build_parser().parse_args(argv)
    torch.set_num_threads(1)
    rng, unequal = random.Random(args.seed), 0
    with tempfile.TemporaryDirectory() as folder:
        cases = [case for case in make_cases(Path(folder)) if case.name in args.scripts]
        for index, case in enumerate(cases):
            kills = args.kills // len(cases) + (index < args.kills % len(cases))
            unequal += kill_one(case, Path(folder), kills, rng)
    print(f"{args.kills} kills: {args.kills - unequal} equal to the uninterrupted run")
    if unequal:
        sys.exit(1)


def kill_one(case: Case, root: Path, kills: int, rng: random.Random) -> int:
    """The number of kills after which the script did not come to the same."""
    whole, unequal, moments = root / case.name / "whole", 0, []
    operations = run(case.main, case.words(whole), whole)
    expected = contents(whole)
    for number in range(kills):
        here, moment = root / case.name / str(number), rng.randint(1, operations)
        run(case.main, case.words(here), here, kill_at=moment)
        run(case.main, case.again(here), here)
        found = contents(here)
        if differing := sorted(name for name in {*expected, *found} if expected.get(name) != found.get(name)):
            unequal += 1
            print(f"{case.name}, killed before operation {moment}: {', '.join(differing[:5])}")
        moments.append(moment)
        shutil.rmtree(here)
    print(f"{case.name}: {operations} operations, killed before {sorted(moments)}: {unequal} not equal", flush=True)
    return unequal


# --- One run ------------------------------------------------------------------------------------------
def run(main: Callable[[list[str]], None], words: Sequence[object], folder: Path, *, kill_at: int | None = None) -> int:
    """The number of file operations of a run in a process of its own, which ends before the ``kill_at``-th.

    RuntimeError with what it said where it ends by itself with an error.
    """
    folder.mkdir(parents=True, exist_ok=True)
    log, count = folder.parent / f"{folder.name}.log", folder.parent / f"{folder.name}.count"
    child = os.fork()
    if child == 0:
        with log.open("w", buffering=1) as said:
            os.dup2(said.fileno(), 1)
            os.dup2(said.fileno(), 2)
            sys.stdout = sys.stderr = said
            code = 1
            try:
                counter = _Counter(str(folder), kill_at)
                sys.addaudithook(counter)
                main(list(map(str, words)))
                counter.kill_at = None
                count.write_text(str(counter.number))
                code = 0
            except SystemExit as ended:
                code = int(ended.code or 0)
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    if code != 0 and not (kill_at is not None and code == -signal.SIGKILL):
        raise RuntimeError(f"exit code {code} of {' '.join(map(str, words))}:\n{log.read_text()}")
    return int(count.read_text()) if kill_at is None else 0


class _Counter:
    """Counts file operations below a folder, and ends the process before one of them."""

    def __init__(self, folder: str, kill_at: int | None) -> None:
        self.folder, self.kill_at, self.number = folder, kill_at, 0
        self._process = os.getpid()

    def __call__(self, event: str, values: tuple) -> None:
        if event == "open":
            path, _, flags = values
            paths = (path,) if isinstance(flags, int) and flags & WRITING else ()
        else:
            paths = tuple(values[index] for index in OPERATIONS.get(event, ()))
        if not any(isinstance(path, str) and path.startswith(self.folder) for path in map(_as_text, paths)):
            return
        if os.getpid() != self._process:  # what a script starts besides
            return
        self.number += 1
        if self.number == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)


def _as_text(path: object) -> object:
    return os.fsdecode(path) if isinstance(path, str | bytes | os.PathLike) else path


# --- What a run leaves --------------------------------------------------------------------------------
def contents(folder: Path) -> dict[str, Any]:
    """Path -> what a file holds, without times and without the folder's own name; checkpoints: weights."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_file() and not name.endswith(LEFT_OUT) and not name.startswith("cache/"):
            found[name] = _content(path, folder)
    return found


def _content(path: Path, folder: Path) -> Any:
    if path.suffix == ".ckpt":
        state = torch.load(path, weights_only=False)["state_dict"]
        return {name: value.cpu().numpy().tobytes() for name, value in state.items()}
    content = path.read_bytes()
    if path.suffix == ".json":
        with contextlib.suppress(ValueError):
            return _without_times(json.loads(content.replace(str(folder).encode(), b".")))
    if path.suffix in (".zip", ".npz"):
        with zipfile.ZipFile(path) as archive:
            return {name: archive.read(name) for name in archive.namelist()}
    if path.suffix == ".csv":
        return _columns_without_times(content.decode())
    if path.suffix == ".mrc":  # the header's labels say when
        return content[:224] + content[1024:]
    return content.replace(str(folder).encode(), b".")


def _without_times(value: Any) -> Any:
    if isinstance(value, dict):
        kept = {name: one for name, one in value.items() if not any(word in name for word in TIMES)}
        return {name: _without_times(one) for name, one in kept.items() if name not in ("hash", "files")}
    return [_without_times(one) for one in value] if isinstance(value, list) else value


def _columns_without_times(text: str) -> list[list[str]]:
    rows = [line.split(",") for line in text.splitlines()]
    kept = [index for index, name in enumerate(rows[0]) if not any(word in name for word in TIMES)] if rows else []
    return [[row[index] for index in kept if index < len(row)] for row in rows]


# --- The scripts --------------------------------------------------------------------------------------
def make_cases(root: Path) -> list[Case]:
    """Data and networks that all runs share, and the flags of each script."""
    data = root / "shared"
    tiny_campaign.make(data)
    phantoms, lab = data / "phantoms", write_lab(data / "lab")
    train_data = ("--num_train", 2, "--num_eval", 1, "--shape", 32, 64, 64)
    run(make_phantom_dataset.main, ("--output_dir", phantoms, *train_data), phantoms)
    network = next((data / "checkpoints" / "df2").glob("*.ckpt"))
    flags = ("--precision", "fp32", "--inference_window", "train", "--device", "cpu")

    def same(name: str, main: Callable, words: Callable[[Path], Sequence[object]]) -> Case:
        return Case(name, main, words, words)

    def training(here: Path) -> Sequence[object]:
        return (
            *("--data_root", phantoms, "--output_dir", here, "--experiment_name", "run", "--fold", 0, "--epochs", 2),
            *("--steps_per_epoch", 2, "--batch_size", 1, "--patch_size", 32, 32, 32, "--precision", "fp32"),
            *("--encoder_name", "deepfinder2", "--wandb_mode", "disabled", "--device", "cpu"),
        )

    def training_again(here: Path) -> Sequence[object]:
        last, is_finished = here / "run" / "fold_0-last.ckpt", (here / "run" / "fold_0" / "result.json").exists()
        return (*training(here), *(("--resume_from_checkpoint", last) if last.exists() and not is_finished else ()))

    return [
        same("make_phantom_dataset", make_phantom_dataset.main, lambda here: ("--output_dir", here, *train_data)),
        same("prepare_mask_czi", prepare_mask_czi.main, lambda here: ("--data_root", copied(phantoms, here))),
        same(
            "prepare_fullpublic_eval_annotations",
            prepare_fullpublic_eval_annotations.main,
            lambda here: ("--data_dir", without_picks(copied(phantoms / "public", here))),
        ),
        same(
            "import_dataset",
            import_dataset.main,
            lambda here: (
                *("--tomograms", lab / "TS_31.mrc", lab / "TS_32.mrc", "--picks", lab / "particles.star"),
                *("--particle", "spike", "--radius", "spike=60", "--output_dir", here / "out", "--to_zarr"),
            ),
        ),
        Case("train", train.main, training, training_again),
        same(
            "eval_public_czi",
            eval_public_czi.main,
            lambda here: (
                *("--model_path", network, "--data_root", data / "public", "--output_dir", here / "out", *flags),
                *("--cache_dir", here / "cache", "--save_maps", "zarr"),
            ),
        ),
        same(
            "pick_particles",
            pick_particles.main,
            lambda here: (
                *("--model_path", network, "--tomograms", data / "public", "--output_dir", here / "out", *flags),
                *("--cache_dir", here / "cache", "--formats", "csv", "chimerax", "--fixed_plm_gpu_peak_thresh", 0.1),
            ),
        ),
        same(
            "run_experiment_evaluation",
            run_experiment_evaluation.main,
            lambda here: (
                *("--experiments_dir", data / "checkpoints", "--experiment_names", "df2", "--data_root"),
                *(data / "public", "--output_dir", here / "out", "--cache_dir", here / "cache", *flags),
                *("--postprocessing_method", "cc3d", "--hp_search_strategy", "global"),
            ),
        ),
    ]


def write_lab(folder: Path) -> Path:
    """Two tomograms and a STAR file, as somebody has them: dark spheres in noise, and their centres."""
    folder.mkdir(parents=True)
    shape, rng, rows = np.array(tiny_campaign.SHAPE), np.random.default_rng(0), []
    for name in ("TS_31", "TS_32"):
        grey = rng.normal(size=shape).astype(np.float32)
        for centre in rng.uniform(8, shape - 8, size=(2, 3)):
            grey[np.linalg.norm(np.moveaxis(np.indices(shape), 0, -1) - centre, axis=-1) < 6] -= 3
            z, y, x = (centre - shape / 2) * tiny_campaign.SPACING
            rows.append((name, x, y, z))
        with mrcfile.new(folder / f"{name}.mrc") as file:
            file.set_data(grey)
            file.voxel_size = tiny_campaign.SPACING
    columns = ("TomoName", "CenteredCoordinateXAngst", "CenteredCoordinateYAngst", "CenteredCoordinateZAngst")
    table = pd.DataFrame(rows, columns=[f"rln{name}" for name in columns])
    starfile.write({"particles": table}, folder / "particles.star")
    return folder


def copied(tree: Path, folder: Path) -> Path:
    """A tree of the run's own, made once."""
    if not (folder / tree.name).exists():
        shutil.copytree(tree, folder / tree.name)
    return folder / tree.name


def without_picks(tree: Path) -> Path:
    """As it comes from the portal."""
    if not (tree / ".as_fetched").exists():
        for picks in tree.glob("*/Picks"):
            shutil.rmtree(picks)
        (tree / ".as_fetched").touch()
    return tree


if __name__ == "__main__":
    run_script(main)
