"""Several processes: two on one machine for real, and a SLURM job that is requeued."""

import json
import os
import signal
import time
from pathlib import Path

import pandas as pd
import pytest
import torch
from script_process import ScriptProcess

ROOT = Path(__file__).parents[1]
TINY = ["--batch_size", "1", "--patch_size", "16", "16", "16", "--precision", "fp32", "--device", "cpu"]
SLURM = {
    "SLURM_JOB_ID": "4711",
    "SLURM_JOB_NAME": "train",
    "SLURM_NTASKS": "1",
    "SLURM_PROCID": "0",
    "SLURM_LOCALID": "0",
    "SLURM_NODEID": "0",
    "SLURM_NODELIST": "localhost",
}


def start(words, **environment):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    return ScriptProcess(ROOT / "train.py", *words, environment=environment)


def finish(process):
    out, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    return out


def test_two_processes_train_one_network(phantom, tmp_path):
    """One folder, both folds one after the other, one voice; GradNorm's weights and the scores are shared."""
    words = ["--data_root", phantom, "--output_dir", tmp_path, "--cache_dir", tmp_path / "cache", *TINY]
    words += ["--epochs", 2, "--steps_per_epoch", 2, "--devices", 2, "--strategy", "ddp", "--use_gradnorm"]
    printed = finish(start(words))
    [experiment] = tmp_path.glob("deepfinder2_*")
    assert printed.count("experiment ") == 1 and printed.count("weighted F4") == 2
    assert set(json.loads((experiment / "thresholds.json").read_text())) == {"fold_0", "fold_1"}
    for fold in (0, 1):
        metrics = pd.read_csv(experiment / f"fold_{fold}" / "metrics.csv")
        assert list(metrics["step"]) == [2, 4] and metrics.notna().all(axis=None)
        assert torch.load(experiment / f"fold_{fold}-last.ckpt", weights_only=True)["global_step"] == 4


def test_a_requeued_slurm_job_goes_on_in_its_folder(phantom, tmp_path):
    """SIGUSR1 saves and asks for the job to be requeued; the same command under the same job id finishes it."""
    scontrol = tmp_path / "bin" / "scontrol"
    scontrol.parent.mkdir()
    scontrol.write_text(f"#!/bin/sh\necho $@ >> {tmp_path / 'requeued'}\n")
    scontrol.chmod(0o755)
    environment = {**SLURM, "PATH": f"{scontrol.parent}:{os.environ['PATH']}"}
    words = ["--data_root", phantom, "--output_dir", tmp_path / "out", "--cache_dir", tmp_path / "cache", *TINY]
    words += ["--epochs", 8, "--steps_per_epoch", 10, "--fold", 1]
    first = start(words, **environment)
    fold = tmp_path / "out" / "deepfinder2_4711" / "fold_1"
    wait_for(fold / "metrics.csv", first)
    first.send_signal(signal.SIGUSR1)
    wait_for(tmp_path / "requeued", first)
    first.kill()
    first.communicate()
    assert (tmp_path / "requeued").read_text().split() == ["requeue", "4711"]
    [saved] = fold.glob("hpc_ckpt_*.ckpt")
    steps_before = torch.load(saved, weights_only=True)["global_step"]
    assert 10 <= steps_before < 80

    assert "weighted F4" in finish(start(words, **environment))
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["deepfinder2_4711"]
    metrics = pd.read_csv(fold / "metrics.csv")
    assert list(metrics["epoch"]) == list(range(8)) and metrics["step"].iloc[-1] == 80
    assert "finished before" in finish(start(words, **environment))


def test_a_slurm_job_that_was_preempted_goes_on_from_its_last_checkpoint(phantom, tmp_path):
    """SIGTERM: no checkpoint of SLURM's, but the last one; the exit code says that the job was stopped."""
    words = ["--data_root", phantom, "--output_dir", tmp_path / "out", "--cache_dir", tmp_path / "cache", *TINY]
    words += ["--epochs", 8, "--steps_per_epoch", 10, "--fold", 1]
    first = start(words, **SLURM)
    fold = tmp_path / "out" / "deepfinder2_4711" / "fold_1"
    wait_for(fold / "metrics.csv", first)
    first.send_signal(signal.SIGTERM)
    _, errors = first.communicate(timeout=120)
    assert first.returncode == 143 and "stopped; go on with --resume_from_checkpoint" in errors.splitlines()[-1]
    before = len(pd.read_csv(fold / "metrics.csv"))
    assert before < 8
    assert "weighted F4" in finish(start(words, **SLURM))
    assert list(pd.read_csv(fold / "metrics.csv")["epoch"]) == list(range(8))


def test_the_tasks_of_a_job_array_share_an_experiment(phantom, tmp_path):
    """Each with the cache of its node, and as many processes as there are cores."""
    words = ["--data_root", phantom, "--output_dir", tmp_path / "out", *TINY, "--epochs", 1, "--steps_per_epoch", 1]
    array = {**SLURM, "SLURM_ARRAY_JOB_ID": "99"}
    tasks = [
        start(
            [*words, "--fold", k, "--cache_dir", tmp_path / f"cache_{k}", "--num_workers", k],
            **{**array, "SLURM_JOB_ID": str(100 + k)},
        )
        for k in (0, 1)
    ]
    for task in tasks:
        finish(task)
    [experiment] = (tmp_path / "out").iterdir()
    assert experiment.name == "deepfinder2_99"
    assert set(json.loads((experiment / "thresholds.json").read_text())) == {"fold_0", "fold_1"}
    other = start([*words, "--fold", 0, "--lr", "0.1"], **array)
    _, errors = other.communicate(timeout=300)
    assert other.returncode == 2 and "--lr" in errors and "--comment" in errors


def wait_for(path, process):
    deadline = time.monotonic() + 120
    while not path.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            pytest.fail(f"{path.name} did not appear: {process.communicate()[1]}")
        time.sleep(0.05)
