"""What several test files need."""

import atexit
import os
import shutil
import tempfile

import pytest
from hypothesis import settings
from matplotlib.figure import Figure

# The same examples in every run: a failure is one of the change at hand.
settings.register_profile("repeatable", derandomize=True, database=None, deadline=None, max_examples=40)
settings.load_profile("repeatable")

# Before config is read: no test writes beside the program.
os.environ["ETFINDER_CACHE_DIR"] = tempfile.mkdtemp(prefix="etfinder-test-cache-")
atexit.register(shutil.rmtree, os.environ["ETFINDER_CACHE_DIR"], ignore_errors=True)

# Tests hold the table of the challenge.
os.environ.pop("ETFINDER_PARTICLES", None)

import make_phantom_dataset  # noqa: E402
from inference.maps.network_maps import NetworkMaps  # noqa: E402

# Drawing took half of the time of all tests.
_draw, _drawn = Figure.savefig, False


def _save_picture(figure, *arguments, **options):
    """An empty picture of the right kind, unless the test is of what is in it."""
    if not _drawn:
        figure.clear()
    return _draw(figure, *arguments, **options | ({} if _drawn else {"dpi": 10}))


Figure.savefig = _save_picture


# Few but long tests, of processes that start others: begun first, no core waits for them at the end.
LONGEST = (
    "test_training",
    "test_cluster",
    "test_campaign",
    "test_scripts",
    "test_distributed",
    "test_shards",
    "test_trouble",
)


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: item.path.stem not in LONGEST)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    global _drawn
    _drawn = item.get_closest_marker("pictures") is not None


@pytest.fixture(autouse=True)
def no_run_id(monkeypatch):
    """A training on several devices hands its name on to its processes; the next test is another training."""
    monkeypatch.delenv("ETFINDER_RUN_ID", raising=False)


@pytest.fixture(scope="session")
def phantom(tmp_path_factory):
    """A tiny data set in both layouts: two training runs, one portal run without prepared picks."""
    root = tmp_path_factory.mktemp("phantom")
    make_phantom_dataset.main(
        ["--output_dir", str(root), "--num_train", "2", "--num_eval", "1", "--shape", "32", "64", "64"]
    )
    return root


@pytest.fixture
def networks_run(monkeypatch):
    """Names of the runs whose maps are made."""
    made, make = [], NetworkMaps._make

    def noted(self, checkpoint, source, *rest):
        made.append(source.name)
        return make(self, checkpoint, source, *rest)

    monkeypatch.setattr(NetworkMaps, "_make", noted)
    return made
