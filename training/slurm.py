"""Whether SLURM starts the processes of a training, or only the shell in which it was typed."""

import os
from collections.abc import Mapping

from pytorch_lightning.plugins.environments import ClusterEnvironment, LightningEnvironment, TorchElasticEnvironment

from errors import InputError

# Names of jobs that are shells (srun --pty bash, salloc); Lightning goes by them too.
SHELLS = ("bash", "sh", "zsh", "tcsh", "interactive")


def started_by_slurm(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether this process is a task of a SLURM job, as in a batch script or by ``srun``.

    A shell inside an allocation (``salloc``, ``srun --pty bash``) hands the variables of the job on to what is typed in
    it: it has no number among the tasks, its job is named after the shell, or its step is the shell's alone.
    """
    if "SLURM_NTASKS" not in environment or "SLURM_PROCID" not in environment:
        return False
    if environment.get("SLURM_JOB_NAME") in SHELLS:
        return False
    # srun --pty marks its step, whatever the name of the job.
    return "SLURM_PTY_PORT" not in environment


def check_slurm_tasks(environment: Mapping[str, str], devices: int, num_nodes: int) -> None:
    """InputError where SLURM starts other processes than the training wants, which would wait for each other."""
    per_node, tasks = environment.get("SLURM_NTASKS_PER_NODE"), int(environment["SLURM_NTASKS"])
    if per_node is not None and int(per_node) != devices:
        raise InputError(f"--devices {devices}, but SLURM starts {per_node} tasks per node; make the two the same")
    if per_node is None and tasks > 1:
        raise InputError(
            f"SLURM has {tasks} tasks by --ntasks, which does not say how many per node; "
            f"use --ntasks-per-node={devices} (= --devices) and --nodes={num_nodes}"
        )
    nodes = int(environment.get("SLURM_NNODES", num_nodes))
    if nodes != num_nodes:
        raise InputError(f"--num_nodes {num_nodes}, but SLURM's job has {nodes} nodes; make the two the same")


def process_environment() -> list[ClusterEnvironment]:
    """A plugin for Lightning where it would take the shell of an allocation for a job of n tasks; else none."""
    if "SLURM_NTASKS" in os.environ and not started_by_slurm() and not TorchElasticEnvironment.detect():
        return [LightningEnvironment()]
    return []
