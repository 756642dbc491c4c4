"""Maps of single networks: read once, made once, by the windows of the first time."""

import json
from dataclasses import replace

import pytest
import tiny_campaign
import torch

import evaluation.network_maps
from data.czi import find_runs
from evaluation.ensembles import mean_of_maps
from evaluation.experiments import Detector
from evaluation.map_store import MapStore
from evaluation.network_maps import WINDOWS, NetworkMaps, one_ahead, open_sources
from evaluation.tomograms import TomogramSettings
from inference.settings import InferenceSettings
from particle_config import PARTICLES

SETTINGS = TomogramSettings("denoised", (0.5, 99.5), 10.0)
INFERENCE = InferenceSettings((24, 32, 32), 0.25, "gaussian", 1, "none", "fp32")


@pytest.fixture
def detector(tmp_path):
    """Two networks; the tomograms are beside them."""
    for seed, name in enumerate(tiny_campaign.EVALUATED):
        tiny_campaign.write_run(tmp_path / "data", name, seed)
    members = tuple(tmp_path / f"{fold}.ckpt" for fold in (0, 1))
    for fold, path in enumerate(members):
        tiny_campaign.write_checkpoint(path, fold, seed=fold)
    return Detector("ensemble", members, mean_of_maps, ())


@pytest.fixture
def sources(detector, tmp_path):
    return open_sources(find_runs(tmp_path / "data", tomo_type="denoised"), SETTINGS)


@pytest.fixture
def reads(monkeypatch):
    """Paths of the tomograms that are read."""
    found = []
    read = evaluation.network_maps.read_tomogram

    def noted(tomogram, settings):
        found.append(tomogram.path)
        return read(tomogram, settings)

    monkeypatch.setattr(evaluation.network_maps, "read_tomogram", noted)
    return found


def maps(tmp_path, **options):
    return NetworkMaps(MapStore(tmp_path / "maps", 1.0), torch.device("cpu"), particles=PARTICLES, **options)


def combined(these, detector, source, inference=INFERENCE):
    return these.combined(detector, detector.members, source, inference, lambda voxels: None)


def test_a_tomogram_is_read_once_for_all_networks_and_never_for_known_maps(detector, sources, reads, tmp_path):
    first = combined(maps(tmp_path), detector, sources[0])
    assert len(reads) == 1 and first.volume is None
    sources[0].forget()
    again = combined(maps(tmp_path), detector, sources[0])
    assert len(reads) == 1 and torch.equal(first.prediction.probability, again.prediction.probability)
    assert len(maps(tmp_path).timings.read()) == 2


def test_the_next_is_read_ahead_only_where_it_is_needed(sources, reads):
    for index, source in enumerate(one_ahead(sources, lambda source: True)):
        source.normalised()
        assert len(reads) >= index + 1
    assert len(reads) == 2
    list(one_ahead(sources, lambda source: False))
    assert len(reads) == 2


@pytest.mark.parametrize(
    ("changes", "another"),
    [
        ({"tta_group": "d2"}, True),
        ({"window": (16, 32, 32)}, True),
        ({"precision": "bf16"}, True),
        ({"batch_size": 4}, False),
        ({"max_memory_gb": 3.0}, False),
        ({"compile": True}, False),
    ],
)
def test_a_map_is_another_where_its_values_may_be(detector, sources, tmp_path, changes, another):
    these, path = maps(tmp_path), detector.members[0]
    changed = these.key(path, sources[0], replace(INFERENCE, **changes))
    assert (changed != these.key(path, sources[0], INFERENCE)) is another
    assert these.key(path, sources[1], INFERENCE) != these.key(detector.members[1], sources[0], INFERENCE)


def test_windows_stay_as_they_were_first_chosen(detector, sources, tmp_path, monkeypatch):
    """The memory that is free then may be another when the campaign goes on."""
    auto = replace(INFERENCE, window="auto")
    combined(maps(tmp_path), detector, sources[0], auto)
    [record] = (tmp_path / "maps" / WINDOWS).iterdir()  # both networks are of one architecture
    record.write_text("[16, 16, 32]")
    predictor = maps(tmp_path)._predictor(detector.members[0], auto, sources[1].tomogram.shape_zyx)
    assert tuple(predictor.window_for(sources[1].tomogram.shape_zyx)) == (16, 16, 32)
    maps(tmp_path)._predictor(detector.members[0], replace(auto, max_memory_gb=50.0), (24, 32, 32))
    windows = sorted(json.loads(path.read_text()) for path in record.parent.iterdir())
    assert windows == [[16, 16, 32], [24, 32, 32]]  # with other memory they are chosen anew


def test_networks_stay_ready_until_there_is_no_room(detector, monkeypatch, tmp_path):
    these, shape = maps(tmp_path), (24, 32, 32)
    first = these._predictor(detector.members[0], INFERENCE, shape)
    assert these._predictor(detector.members[0], INFERENCE, shape) is first
    monkeypatch.setattr(evaluation.network_maps, "RESIDENT_BYTES", 0)
    these._predictor(detector.members[1], INFERENCE, shape)
    assert these._predictor(detector.members[0], INFERENCE, shape) is not first
