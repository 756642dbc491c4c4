"""Shards: the same results as one process, in any order, killed and started again, and nobody else beside them."""

from unittest import mock

import pandas as pd
import pytest
import tiny_campaign

import eval_public_czi
import pick_particles
import run_experiment_evaluation
from cluster.arguments import check_cluster_arguments
from errors import InputError
from evaluation.ownership import Command, owned
from evaluation.picking import PickingTask
from evaluation.shards import Shard
from inference.predictor import Predictor

RUNS = ("TS_50", "TS_51", "TS_52", "TS_53", "TS_54")
FIXED = ("--fixed_plm_gpu_peak_thresh", "0.1", "--precision", "fp32", "--inference_window", "train")
COMMAND = Command("python pick_particles.py", {"use_tta": True}, {})


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return tiny_campaign.write_world(tmp_path_factory.mktemp("shards"), RUNS)


def pick(world, *words, out):
    inputs = ("--model_path", world / "network.ckpt", "--tomograms", world / "public", "--output_dir", world / out)
    pick_particles.main(list(map(str, (*inputs, "--cache_dir", world / "cache", *FIXED, *words))))


def evaluate(world, *words, out):
    inputs = ("--model_path", world / "network.ckpt", "--data_root", world / "public", "--output_dir", world / out)
    eval_public_czi.main(list(map(str, (*inputs, "--cache_dir", world / "cache", *FIXED[2:], *words))))


def contents(folder, leave_out=("run_parameters.json", "gallery.html")):
    """Path -> bytes of all that a user looks at; the left out hold the command as it was typed."""
    files = [path for path in folder.rglob("*") if path.is_file() and not path.name.endswith(".lock")]
    kept = [path for path in files if path.name not in leave_out and ".shards" not in path.parts]
    return {str(path.relative_to(folder)): path.read_bytes() for path in kept}


# --- Which part ---------------------------------------------------------------------------------------
@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_parts_are_disjoint_and_all_together(count):
    parts = [Shard(number, count).part(RUNS) for number in range(1, count + 1)]
    assert sorted(name for part in parts for name in part) == sorted(RUNS)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def array(task, low, high, count=None):
    names = {"ID": task, "MIN": low, "MAX": high, "COUNT": high - low + 1 if count is None else count}
    return {f"SLURM_ARRAY_TASK_{name}": str(value) for name, value in names.items()}


@pytest.mark.parametrize(
    ("text", "environment", "shard"),
    [
        ("2/3", {}, Shard(2, 3)),
        *(("slurm", array(task, 1, 3), Shard(task, 3)) for task in (1, 2, 3)),
        *(("slurm", array(task, 0, 2), Shard(task or 3, 3)) for task in (0, 1, 2)),
        # Task 5 alone once more, of an array that was 0 to 9 or 1 to 10.
        ("slurm/10", array(5, 5, 5), Shard(5, 10)),
    ],
)
def test_words_and_job_arrays(text, environment, shard):
    assert Shard.of_words(text, environment) == shard


@pytest.mark.parametrize(
    ("text", "environment", "what"),
    [
        *(
            (text, {}, "I must be|is neither I/N nor slurm")
            for text in ("0/3", "4/3", "3", "a/b", "1/0", "-1/3", "1/2/3", "")
        ),
        ("slurm", {}, "job array"),
        ("slurm", array(3, 3, 7, count=2), "slurm/N"),
        ("slurm", array(5, 5, 5), "slurm/N"),
        ("slurm/4", array(5, 5, 5), "none of 4"),
    ],
)
def test_words_that_name_no_part(text, environment, what):
    with pytest.raises(ValueError, match=what):
        Shard.of_words(text, environment)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("--shard", "1/2", "--cluster", "local"), "either"),
        (("--shard", "1/2", "--force_rerun"), "what other shards do"),
        (("--workers", "2"), "no effect"),
        (("--slurm_options", "-p gpu"), "no effect"),
    ],
)
def test_flags_that_do_not_go_together(words, text):
    arguments = pick_particles.build_parser().parse_args(["--model_path", "a", "--tomograms", "b", *words])
    with pytest.raises(InputError, match=text):
        check_cluster_arguments(arguments)


# --- The same results ---------------------------------------------------------------------------------
@pytest.mark.pictures
def test_picking_in_three_shards_is_picking_at_once(world, capsys):
    pick(world, "--formats", "csv", out="at_once")
    for number in (2, 3, 1):
        assert not (world / "sharded" / "picks.csv").exists()
        pick(world, "--formats", "csv", "--shard", f"{number}/3", out="sharded")
    assert "not finished: 1/3, 3/3" in capsys.readouterr().out
    assert contents(world / "sharded") == contents(world / "at_once")
    # All are finished: any of them writes the tables again, and runs nothing.
    (world / "sharded" / "picks.csv").unlink()
    with mock.patch.object(Predictor, "__call__", side_effect=AssertionError("a network ran")):
        pick(world, "--formats", "csv", "--shard", "2/3", out="sharded")
    assert contents(world / "sharded") == contents(world / "at_once")


def test_evaluation_and_its_search_in_shards(world):
    for what, words in {"fixed": FIXED[:2], "searched": ("--hp_search_strategy", "global")}.items():
        evaluate(world, *words, out=f"{what}_at_once")
        for number in (1, 2):
            evaluate(world, *words, "--shard", f"{number}/2", out=f"{what}_sharded")
        assert contents(world / f"{what}_sharded") == contents(world / f"{what}_at_once")


def test_the_maps_of_a_campaign_in_shards(tmp_path):
    root = tiny_campaign.make(tmp_path)
    networks_run = []
    real = Predictor.__call__
    count = mock.patch.object(Predictor, "__call__", lambda *args: networks_run.append(1) or real(*args))
    words = ("--postprocessing_method", "cc3d", "--hp_search_strategy", "global")
    with count:
        for number in (2, 1):
            command = tiny_campaign.command(root, "--shard", f"{number}/2", *words, output="sharded")
            run_experiment_evaluation.main(command)
        # Two experiments of two folds; each fold is tuned on one tomogram and evaluated on two.
        assert len(networks_run) == 2 * 2 * 3
        run_experiment_evaluation.main(tiny_campaign.command(root, *words, output="at_once"))
    assert len(networks_run) == 12
    tables = ("comparison_summary.csv", "per_tomogram_scores.csv")
    assert all((root / "sharded" / name).read_bytes() == (root / "at_once" / name).read_bytes() for name in tables)


# --- Troubles -----------------------------------------------------------------------------------------
def test_a_shard_that_was_killed_is_started_again(world):
    """The others' work stays, and of its own what was finished."""
    done = []

    def until_killed(task, maps, progress):
        if done:
            raise KeyboardInterrupt
        done.append(task.name)
        return real(task, maps, progress)

    pick(world, "--shard", "2/2", out="killed")
    real = PickingTask.do
    with mock.patch.object(PickingTask, "do", until_killed), pytest.raises(KeyboardInterrupt):
        pick(world, "--shard", "1/2", out="killed")
    assert done == ["TS_50"] and not (world / "killed" / "picks.csv").exists()
    finished = world / "killed" / "picks" / "TS_50" / ".finished.json"
    before = finished.stat().st_mtime_ns
    pick(world, "--shard", "1/2", out="killed")
    assert finished.stat().st_mtime_ns == before
    assert set(pd.read_csv(world / "killed" / "picks.csv")["experiment"]) == set(RUNS)


def test_a_tomogram_that_fails_in_one_shard_is_named_by_the_last(world, tmp_path):
    broken = tmp_path / "public"
    for seed, name in enumerate(RUNS[:3]):
        tiny_campaign.write_run(broken, name, seed)
    path = next(broken.rglob("*TS_51*/**/denoised.mrc"))
    content = bytearray(path.read_bytes())
    content[1024:1028] = b"\xff\xff\xff\x7f"  # not a number
    path.write_bytes(content)
    command = ["--model_path", str(world / "network.ckpt"), "--tomograms", str(broken), *FIXED]
    command += ["--output_dir", str(tmp_path / "out"), "--cache_dir", str(tmp_path / "cache")]
    with pytest.raises(SystemExit) as ended:
        pick_particles.main([*command, "--shard", "2/2"])
    assert ended.value.code == 1
    with pytest.raises(SystemExit) as ended:
        pick_particles.main([*command, "--shard", "1/2"])
    assert ended.value.code == 1
    [row] = pd.read_csv(tmp_path / "out" / "failures.csv").itertuples()
    assert row.tomogram == "TS_51" and "NaN or infinite" in row.reason
    assert set(pd.read_csv(tmp_path / "out" / "picks.csv")["experiment"]) == {"TS_50", "TS_52"}


def test_a_shard_of_another_choice_of_particles_is_not_taken_for_finished(world):
    pick(world, "--shard", "1/2", out="choices")
    pick(world, "--shard", "2/2", "--particles", "ribosome", out="choices")
    assert not (world / "choices" / "picks.csv").exists()
    pick(world, "--shard", "1/2", "--particles", "ribosome", out="choices")
    assert set(pd.read_csv(world / "choices" / "picks.csv")["particle_type"]) == {"ribosome"}


def hold(root, number=None, count=3, command=COMMAND, **options):
    shard = None if number is None else Shard(number, count)
    return owned(root, command, results=("picks",), temporary=(".*.partial",), shard=shard, **options)


def test_who_may_be_at_work_on_a_folder_at_once(tmp_path):
    with hold(tmp_path, 1), hold(tmp_path, 3):
        (tmp_path / ".picks.csv.x.partial").mkdir()  # of a shard that is at work
        for number, count in ((None, None), (1, 3), (2, 4)):
            with pytest.raises(InputError, match="at work"), hold(tmp_path, number, count):
                pass
        with hold(tmp_path, 2):
            assert (tmp_path / ".picks.csv.x.partial").exists()
    with hold(tmp_path):
        assert not (tmp_path / ".picks.csv.x.partial").exists()
        with pytest.raises(InputError, match="at work"), hold(tmp_path, 1):
            pass
    with hold(tmp_path, 2, 4):
        pass


def test_shards_of_other_flags_are_refused_before_there_are_results(tmp_path):
    other = Command(COMMAND.line, {"use_tta": False}, {})
    with hold(tmp_path, 1), pytest.raises(InputError, match="--use_tta True, not False"):
        hold(tmp_path, 2, command=other).__enter__()


def test_what_another_shard_writes_at_the_moment_is_no_foreign_result(world):
    out = world / "beside"
    for folder in ("picks", "maps"):
        (out / folder / ".TS_9.abc.partial").mkdir(parents=True)
    pick_particles.check_same_tomograms(out, RUNS)
    assert eval_public_czi.remove_other_runs(out, RUNS) == []
    assert (out / "picks" / ".TS_9.abc.partial").is_dir()
