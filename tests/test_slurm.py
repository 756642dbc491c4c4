"""A shell inside an allocation hands on SLURM's variables: that is no job of several tasks."""

import pytest
from pytorch_lightning.plugins.environments import LightningEnvironment

from errors import InputError
from training.slurm import check_slurm_tasks, process_environment, started_by_slurm

TASK = {"SLURM_JOB_ID": "7", "SLURM_JOB_NAME": "train", "SLURM_NTASKS": "1", "SLURM_PROCID": "0"}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, True),
        ({"SLURM_NTASKS": "4", "SLURM_NTASKS_PER_NODE": "4"}, True),
        ({"SLURM_JOB_NAME": "bash", "SLURM_NTASKS": "2"}, False),  # srun --pty bash
        ({"SLURM_JOB_NAME": "interactive"}, False),  # salloc
        ({"SLURM_PTY_PORT": "40001"}, False),  # srun --pty of a job with a name
        ({"SLURM_PROCID": None}, False),  # salloc -J a_name
        ({"SLURM_NTASKS": None}, False),  # no SLURM at all
    ],
    ids=["task", "tasks", "pty_bash", "salloc", "pty_named", "salloc_named", "none"],
)
def test_who_started_this_process(changes, expected, monkeypatch):
    environment = {name: value for name, value in {**TASK, **changes}.items() if value is not None}
    assert started_by_slurm(environment) == expected
    for name in ("SLURM_NTASKS", "SLURM_PROCID", "SLURM_JOB_NAME", "SLURM_PTY_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    plugins = process_environment()
    assert bool(plugins) == (not expected and "SLURM_NTASKS" in environment)
    assert all(isinstance(one, LightningEnvironment) for one in plugins)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"SLURM_NTASKS": "2"}, "--ntasks-per-node=1"),
        ({"SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "2"}, "2 tasks per node"),
        ({"SLURM_NTASKS_PER_NODE": "1", "SLURM_NNODES": "2"}, "2 nodes"),
    ],
    ids=["ntasks", "per_node", "nodes"],
)
def test_other_numbers_of_processes_are_an_error(changes, message):
    check_slurm_tasks(TASK, 1, 1)
    with pytest.raises(InputError, match=message):
        check_slurm_tasks({**TASK, **changes}, 1, 1)
