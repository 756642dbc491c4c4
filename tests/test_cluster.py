"""Workers of Dask: the same results as one process, whoever dies in the middle, and nobody's leftovers."""

import os
import shutil
import signal
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from unittest import mock

import pandas as pd
import pytest
import tiny_campaign
import torch
from fake_work import FakeSource, FakeWork, works
from script_process import ScriptProcess, run_script_process
from test_shards import contents, evaluate, pick

import pick_particles
import run_experiment_evaluation
from errors import InputError
from evaluation.progress import ProgressBars
from inference.maps.network_maps import MapSettings
from particle_config import PARTICLES

dask, distributed = pytest.importorskip("dask"), pytest.importorskip("distributed")

from cluster.dask_workers import dask_workers  # noqa: E402
from cluster.start import QUIET, WorkerStart, lifetime, local_environments, local_workers, sbatch_options  # noqa: E402

ROOT = Path(__file__).parents[1]
RUNS = ("TS_50", "TS_51", "TS_52")
# So many that something is left to do when a command or its worker is stopped after the first.
MANY = tuple(f"TS_{number}" for number in range(60, 70))


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return tiny_campaign.write_world(tmp_path_factory.mktemp("cluster"), RUNS)


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    return tiny_campaign.write_world(tmp_path_factory.mktemp("many"), MANY)


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory):
    """The address of one with two workers, as a user starts them; they can import the tests."""
    logs = tmp_path_factory.mktemp("logs")
    with pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
        patch.setenv("PYTHONPATH", str(ROOT / "tests"))
        started, _ = stack.enter_context(local_workers(WorkerStart(ROOT, logs, on_gpu=False), 2))
        started.wait_for_workers(2, timeout=120)
        yield started.scheduler_address


def settings(tmp_path, **options):
    return MapSettings(tmp_path / "maps", 1.0, **{"device": "cpu", "precision": "fp32", **options}, particles=PARTICLES)


def records(scheduler, tmp_path, work, **options):
    with dask_workers(scheduler, None, None, settings(tmp_path, **options), ProgressBars(), tmp_path) as workers:
        return {record.run_name: record for record in workers.records(work)}


# --- How workers are started --------------------------------------------------------------------------
def test_a_worker_for_each_gpu_or_a_share_of_the_cores(tmp_path, monkeypatch):
    start = WorkerStart(ROOT, tmp_path, on_gpu=True)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    found = local_environments(start, None)
    assert [one["CUDA_VISIBLE_DEVICES"] for one in found] == ["0", "1"]
    assert {one["OMP_NUM_THREADS"] for one in found} == {"4"}
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,GPU-5")
    assert [one["CUDA_VISIBLE_DEVICES"] for one in local_environments(start, None)] == ["3", "GPU-5"]
    with pytest.raises(InputError, match="2 GPUs"):
        local_environments(start, 3)
    on_cpu = local_environments(WorkerStart(ROOT, tmp_path, on_gpu=False), 3)
    assert len(on_cpu) == 3 and {one["OMP_NUM_THREADS"] for one in on_cpu} == {"2"}
    assert not any("CUDA_VISIBLE_DEVICES" in one for one in on_cpu)
    assert len(local_environments(WorkerStart(ROOT, tmp_path, on_gpu=False), None)) == 2
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert {one["OMP_NUM_THREADS"] for one in local_environments(start, 2)} == {"1"}


@pytest.mark.parametrize(
    ("text", "on_gpu", "options"),
    [
        ("", True, {"cpus-per-task": "8", "mem": "48G", "gres": "gpu:1"}),
        ("", False, {"cpus-per-task": "8", "mem": "48G"}),
        ("-p gpu -t 1:00:00 -c4", False, {"cpus-per-task": "4", "mem": "48G", "partition": "gpu", "time": "1:00:00"}),
        (
            "--gres=gpu:a100:1 --exclusive --mem 9G",
            True,
            {"cpus-per-task": "8", "mem": "9G", "gres": "gpu:a100:1", "exclusive": None},
        ),
        ("--gpus-per-node=1", True, {"cpus-per-task": "8", "mem": "48G", "gpus-per-node": "1"}),
        ("--comment='two words'", False, {"cpus-per-task": "8", "mem": "48G", "comment": "two words"}),
    ],
)
def test_options_of_sbatch(text, on_gpu, options):
    assert sbatch_options(text, on_gpu=on_gpu) == options


@pytest.mark.parametrize("text", ["gpu", "--mem=4G gpu", "--cpus-per-task=many"])
def test_options_that_sbatch_would_refuse(text):
    with pytest.raises(InputError, match="--slurm_options"):
        sbatch_options(text, on_gpu=True)


@pytest.mark.parametrize(
    ("wall_time", "seconds"),
    [
        *(("60", 3300), ("60:00", 3300), ("1:00:00", 3300), ("1-0", 86100), ("1-00:00:00", 86100)),
        *(("2-12:30", (60 * 60 + 30) * 60 - 300), ("5", 150)),
    ],
)
def test_a_worker_ends_before_its_job(wall_time, seconds):
    assert lifetime(wall_time) == seconds


@pytest.mark.parametrize("wall_time", ["soon", "1:2:3:4", "1-"])
def test_times_that_are_none(wall_time):
    with pytest.raises(InputError, match="is no time"):
        lifetime(wall_time)


# --- What workers do ----------------------------------------------------------------------------------
def test_variables_are_set_before_a_worker_starts(scheduler):
    """Libraries read them when they are imported: what the process had at its very start is asked for."""
    with distributed.Client(scheduler) as client:
        threads = client.run(lambda: Path("/proc/self/environ").read_bytes().count(b"OMP_NUM_THREADS=1"))
        for name, value in QUIET.items():
            assert set(client.run(dask.config.get, name).values()) == {value}
    assert set(threads.values()) == {1} if len(os.sched_getaffinity(0)) < 4 else {0}


def test_each_unit_of_work_is_done_once_and_by_both_workers(scheduler, tmp_path):
    (tmp_path / "attempts").mkdir()
    found = records(scheduler, tmp_path, works(40, seconds=0.02, attempts=tmp_path / "attempts"))
    assert sorted(found) == sorted(one.source.name for one in works(40))
    assert len({record.pid for record in found.values()}) == 2
    assert len(list((tmp_path / "attempts").iterdir())) == 40


def test_what_fails_is_tried_as_often_as_it_makes_sense(scheduler, tmp_path, capsys):
    """The input never again, the machine three times, and what kills its workers four times; the rest is done."""
    (tmp_path / "attempts").mkdir()
    found = {}
    for names in (("input", "machine"), ("kill",)):
        bad = [FakeWork(FakeSource(name), then=name, attempts=tmp_path / "attempts") for name in names]
        found |= records(scheduler, tmp_path, [*bad, *works(6, seconds=0.05)])
    attempts = [path.name.split("-")[0] for path in (tmp_path / "attempts").iterdir()]
    assert {name: attempts.count(name) for name in set(attempts)} == {"input": 1, "machine": 3, "kill": 4}
    failed = {name: str(record.error) for name, record in found.items() if record.error is not None}
    assert failed.pop("kill").startswith("2 workers died while they were at work on it alone")
    assert failed == {"input": "not a tomogram", "machine": "no space left"}
    assert len(found) == 9 and "TS_00005: done (worker" in capsys.readouterr().out


def test_what_waits_beside_work_that_kills_its_worker_is_done(tmp_path, monkeypatch):
    """With a single worker all that is there waits for it, and is blamed with it."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "tests"))
    monkeypatch.setattr("cluster.start.START_SECONDS", 0.0)  # none of them waits before it starts again
    bad = [FakeWork(FakeSource(f"bad_{number}"), then="kill") for number in range(2)]
    with dask_workers("local", 1, None, settings(tmp_path), ProgressBars(), tmp_path) as workers:
        found = {record.run_name: record for record in workers.records([bad[0], *works(2), bad[1], *works(4)[2:]])}
    assert {name for name, record in found.items() if record.error is not None} == {"bad_0", "bad_1"}
    assert len(found) == 6


def test_a_worker_reads_the_next_tomogram_while_its_networks_are_at_work(tmp_path, monkeypatch, capsys):
    """All networks run in one thread; what is warned of belongs to the tomogram that was read or done."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "tests"))
    (tmp_path / "reads").mkdir()
    work = [FakeWork(FakeSource(name, tmp_path / "reads"), then="warn") for name in ("TS_1", "TS_2")]
    with dask_workers("local", 1, None, settings(tmp_path), ProgressBars(), tmp_path) as workers:
        found = list(workers.records(work))
    assert not any(record.error for record in found) and len({record.thread for record in found}) == 1
    warned = {line for line in capsys.readouterr().out.splitlines() if line.startswith("warning")}
    lines = {f"warning: {name}: {name} is {what}" for name in ("TS_1", "TS_2") for what in ("read", "done beside 2")}
    assert warned == lines


def test_a_worker_that_is_killed_is_replaced_and_its_work_done_elsewhere(scheduler, tmp_path):
    (tmp_path / "attempts").mkdir()
    with dask_workers(scheduler, None, None, settings(tmp_path), ProgressBars(), tmp_path) as workers:
        found = workers.records(works(30, seconds=0.1, attempts=tmp_path / "attempts"))
        first = next(found)
        os.kill(first.pid, signal.SIGKILL)
        others = list(found)
    assert len({record.run_name for record in (first, *others)}) == 30
    assert not any(record.error for record in others) and {record.pid for record in others} != {first.pid}
    assert 30 <= len(list((tmp_path / "attempts").iterdir())) <= 33


def test_a_worker_that_can_do_nothing_is_named(scheduler, tmp_path):
    with pytest.raises(InputError, match="--precision fp16 needs a GPU"):
        records(scheduler, tmp_path, works(4), precision="fp16")


def test_another_kind_of_device_than_the_workers_is_told_before_maps_are_made(scheduler, tmp_path):
    """The maps would be made there, and then looked for under other keys here."""
    with dask_workers(scheduler, None, None, settings(tmp_path), ProgressBars(), tmp_path) as workers:
        workers.here.maps.device = torch.device("cuda")
        with pytest.raises(InputError, match="workers compute on cpu, this command on cuda"):
            workers.prepare([])


def test_workers_with_another_version_of_the_program_are_refused(scheduler, tmp_path):
    with (
        mock.patch("cluster.dask_workers.code_hash", lambda: "other"),
        pytest.raises(InputError, match="another version"),
    ):
        records(scheduler, tmp_path, works(4))


@pytest.mark.parametrize("where", ["tcp://127.0.0.1:1", "nowhere", "no/such/file.json"])
def test_where_no_scheduler_is(where, tmp_path, monkeypatch):
    monkeypatch.setattr("cluster.dask_workers.CONNECT_SECONDS", 1)
    with pytest.raises(InputError, match="no scheduler of Dask"):
        records(where, tmp_path, works(1))


def test_without_dask_a_line_says_what_to_type(world, monkeypatch):
    monkeypatch.setitem(sys.modules, "cluster.dask_workers", None)
    with pytest.raises(InputError, match="pip install -r requirements-cluster"):
        pick(world, "--cluster", "local", out="never")
    assert not (world / "never").exists()


# --- The scripts --------------------------------------------------------------------------------------
@pytest.mark.pictures
def test_picking_and_evaluating_on_workers_is_the_same_as_here(world, scheduler):
    pick(world, "--save_maps", "zarr", out="here")
    shutil.rmtree(world / "cache")
    pick(world, "--save_maps", "zarr", "--cluster", scheduler, out="there")
    assert contents(world / "there") == contents(world / "here")
    words = ("--hp_search_strategy", "global")
    evaluate(world, *words, out="searched_here")
    shutil.rmtree(world / "cache")
    evaluate(world, *words, "--cluster", scheduler, out="searched_there")
    assert contents(world / "searched_there") == contents(world / "searched_here")


def test_a_campaign_has_its_maps_made_by_workers(tmp_path, scheduler):
    root = tiny_campaign.make(tmp_path)
    words = ("--postprocessing_method", "cc3d")
    with mock.patch("inference.predictor.Predictor.__call__", side_effect=AssertionError("a network ran here")):
        run_experiment_evaluation.main(tiny_campaign.command(root, "--cluster", scheduler, *words, output="there"))
    run_experiment_evaluation.main(tiny_campaign.command(root, *words, output="here"))
    tables = ("comparison_summary.csv", "per_tomogram_scores.csv")
    assert all((root / "there" / name).read_bytes() == (root / "here" / name).read_bytes() for name in tables)


def test_a_map_that_workers_gave_up_is_not_tried_here(tmp_path, scheduler):
    root = tiny_campaign.make(tmp_path)
    path = next((root / "public").rglob("*TS_8*/**/denoised.mrc"))
    content = bytearray(path.read_bytes())
    content[1024:1028] = b"\xff\xff\xff\x7f"  # not a number
    path.write_bytes(content)
    command = tiny_campaign.command(root, "--cluster", scheduler, "--postprocessing_method", "cc3d")
    no_network = mock.patch("inference.predictor.Predictor.__call__", side_effect=AssertionError("a network ran here"))
    with no_network, pytest.raises(SystemExit) as ended:
        run_experiment_evaluation.main(command)
    assert ended.value.code == 1
    failures = pd.read_csv(root / "out" / "failures.csv")
    assert set(failures["tomogram"]) == {"TS_8"} and failures["reason"].str.contains("NaN or infinite").all()


# --- The command --------------------------------------------------------------------------------------
SBATCH = """#!/bin/bash
id=$(( $(ls {jobs} | wc -l) + 1 ))
cp "$1" {jobs}/$id.sh
setsid bash {jobs}/$id.sh > {jobs}/$id.log 2>&1 &
echo $! > {jobs}/$id.pid
echo "Submitted batch job $id"
"""
SCANCEL = """#!/bin/bash
for id in "$@"; do kill -9 -- -$(cat {jobs}/$id.pid); echo $id >> {cancelled}; done
"""


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """SLURM in ten lines: jobs are processes of this machine."""
    jobs, cancelled, programs = tmp_path / "jobs", tmp_path / "cancelled", tmp_path / "bin"
    jobs.mkdir()
    programs.mkdir()
    for name, text in (("sbatch", SBATCH), ("scancel", SCANCEL)):
        (programs / name).write_text(text.format(jobs=jobs, cancelled=cancelled))
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    return tmp_path


def command(world, *words, out):
    inputs = ("--model_path", world / "network.ckpt", "--tomograms", world / "public", "--output_dir", world / out)
    flags = ("--cache_dir", world / f"cache_{out}", "--fixed_plm_gpu_peak_thresh", "0.1", "--precision", "fp32")
    return [str(ROOT / "pick_particles.py"), *map(str, (*inputs, *flags, *words))]


def processes_with(word):
    """Numbers of living processes whose command line or environment names it."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            text = (folder / "cmdline").read_bytes() + (folder / "environ").read_bytes()
        except OSError:
            continue
        if word.encode() in text and int(folder.name) != os.getpid():
            found.append(int(folder.name))
    return found


def wait_until(what, seconds=120):
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.1)


def test_jobs_of_slurm_and_one_that_is_killed(many, slurm):
    """The job that is killed is replaced, nothing is lost, and in the end all jobs are cancelled."""
    options = "--time=1:00:00 --partition=gpu -c1"
    words = command(
        many, "--cluster", "slurm", "--workers", "1", "--slurm_options", options, "--device", "cpu", out="slurm"
    )
    running = ScriptProcess(*words)
    wait_until(lambda: list((many / "slurm" / "picks").glob("TS_*/.finished.json")))
    os.killpg(int((slurm / "jobs" / "1.pid").read_text()), signal.SIGKILL)
    _, errors = running.communicate(timeout=180)
    assert running.returncode == 0, errors
    assert set(pd.read_csv(many / "slurm" / "picks.csv")["experiment"]) == set(MANY)
    script = (slurm / "jobs" / "1.sh").read_text()
    for line in ("#SBATCH -t 1:00:00", "#SBATCH --partition=gpu", "#SBATCH --cpus-per-task=1", "#SBATCH --mem=48G"):
        assert line in script
    assert "--nthreads 2" in script and "--lifetime 3300s" in script and "gres" not in script
    assert len(list((slurm / "jobs").glob("*.sh"))) >= 2
    wait_until(lambda: not processes_with(str(slurm / "jobs")), 20)


def test_ctrl_c_and_a_second_command_on_the_same_folder(many):
    """The second is refused at once; Ctrl-C ends the workers, and the same command goes on."""
    mark = {"ETFINDER_MARK": f"mark-{os.getpid()}"}
    words = command(many, "--cluster", "local", "--workers", "1", out="stopped")

    running = ScriptProcess(*words, environment={**os.environ, **mark})
    wait_until(lambda: (many / "stopped" / "workers").is_dir())
    second = run_script_process(*words)
    assert second.returncode == 2 and "another process is at work" in second.stderr
    wait_until(lambda: list((many / "stopped" / "picks").glob("TS_*/.finished.json")))
    running.send_signal(signal.SIGINT)
    _, errors = running.communicate(timeout=60)
    assert running.returncode == 130 and errors.endswith("interrupted\n")
    wait_until(lambda: not processes_with(mark["ETFINDER_MARK"]), 20)
    pick_particles.main(command(many, out="stopped")[1:])
    assert set(pd.read_csv(many / "stopped" / "picks.csv")["experiment"]) == set(MANY)


@pytest.mark.pictures
def test_the_command_is_killed_and_its_workers_end(world):
    mark = {"ETFINDER_MARK": f"killed-{os.getpid()}"}
    words = command(world, "--cluster", "local", "--workers", "1", out="killed")
    running = ScriptProcess(*words, environment={**os.environ, **mark})
    wait_until(lambda: list((world / "killed" / "picks").glob("TS_*/.finished.json")))
    running.kill()
    running.communicate()
    wait_until(lambda: not processes_with(mark["ETFINDER_MARK"]), 90)
    finished = {path: path.stat().st_mtime_ns for path in (world / "killed" / "picks").glob("TS_*/.finished.json")}
    assert finished
    pick_particles.main(command(world, out="killed")[1:])
    assert all(path.stat().st_mtime_ns == when for path, when in finished.items())
    pick(world, *("--inference_window", "auto"), out="compared")
    assert contents(world / "killed", ("run_parameters.json", "gallery.html", "worker_0.log")) == contents(
        world / "compared"
    )
