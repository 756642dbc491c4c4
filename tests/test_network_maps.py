"""Maps of single networks: read once, made once, kept under all that they depend on."""

import math
from contextlib import nullcontext
from dataclasses import replace
from unittest import mock

import pytest
import tiny_campaign
import torch

import inference.maps.network_maps
from data.czi import find_runs
from errors import InputError
from inference.checkpoints import load_checkpoint
from inference.ensembles import Ensemble, mean_of_maps
from inference.maps.map_store import SUFFIX, MapStore
from inference.maps.network_maps import NetworkMaps
from inference.planning import Planner
from inference.predictor import Predictor
from inference.settings import InferenceSettings
from inference.tomograms import SourceTomogram, TomogramSettings
from particle_config import PARTICLES

SETTINGS = TomogramSettings("denoised", (0.5, 99.5), 10.0)
INFERENCE = InferenceSettings((24, 32, 32), 0.25, "gaussian", 1, "none", "fp32")


@pytest.fixture
def ensemble(tmp_path):
    """Two networks; the tomograms are beside them."""
    for seed, name in enumerate(tiny_campaign.EVALUATED):
        tiny_campaign.write_run(tmp_path / "data", name, seed)
    members = tuple(tmp_path / f"{fold}.ckpt" for fold in (0, 1))
    for fold, path in enumerate(members):
        tiny_campaign.write_checkpoint(path, fold, seed=fold)
    return Ensemble(members, mean_of_maps)


def open_sources(tmp_path, settings=SETTINGS):
    return [SourceTomogram(run, settings) for run in find_runs(tmp_path / "data", tomo_type="denoised")]


@pytest.fixture
def sources(ensemble, tmp_path):
    return open_sources(tmp_path)


@pytest.fixture
def reads(monkeypatch):
    """Names of the tomograms that are read."""
    found, read = [], SourceTomogram._read
    monkeypatch.setattr(SourceTomogram, "_read", lambda self: found.append(self.name) or read(self))
    return found


def maps(tmp_path, device="cpu", **options):
    return NetworkMaps(MapStore(tmp_path / "maps", 1.0), torch.device(device), particles=PARTICLES, **options)


def combined(these, ensemble, source, inference=INFERENCE):
    return these.combined(ensemble, source, inference, lambda voxels: None)


def test_a_tomogram_is_read_once_for_all_networks_and_never_for_known_maps(ensemble, sources, reads, tmp_path):
    assert len(maps(tmp_path).missing(ensemble, sources[0], INFERENCE)) == 2
    first = combined(maps(tmp_path), ensemble, sources[0])
    assert len(reads) == 1
    sources[0].forget()
    again = combined(maps(tmp_path), ensemble, sources[0])
    assert len(reads) == 1 and torch.equal(first.probability, again.probability)
    assert len(maps(tmp_path).timings.read()) == 2
    assert maps(tmp_path).missing(ensemble, sources[0], INFERENCE) == set()


def test_maps_are_made_once_more_when_asked_for(ensemble, sources, reads, tmp_path):
    combined(maps(tmp_path), ensemble, sources[0])
    sources[0].forget()
    these = maps(tmp_path, remake=True)
    assert len(these.missing(ensemble, sources[0], INFERENCE)) == 2
    for _ in range(2):
        combined(these, ensemble, sources[0])
    assert len(reads) == 2 and len(these.timings.read()) == 4
    assert these.missing(ensemble, sources[0], INFERENCE) == set()


# --- Keys ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("changes", "another"),
    [
        ({"tta_group": "d2"}, True),
        ({"tta_group": "d2", "tta_merge": "logit"}, True),
        ({"tta_merge": "logit"}, False),  # of one view
        ({"tilt_axis": "x"}, True),
        ({"window": (16, 32, 32)}, True),
        ({"overlap": 0.5}, True),
        ({"max_overlap_voxels": 3}, True),
        ({"blend_mode": "constant"}, True),
        ({"precision": "bf16"}, True),
        ({"window": (24, 40, 40)}, False),  # cut to the tomogram, the same window is used
        ({"window": "train", "trained_window_zyx": (24, 32, 32)}, False),
        ({"batch_size": 4}, False),
        ({"max_memory_gb": 3.0}, False),
        ({"compile": True}, False),
    ],
)
def test_a_map_is_another_where_its_values_may_be(ensemble, sources, tmp_path, monkeypatch, changes, another):
    monkeypatch.setattr("inference.device.cpu_computes_bf16", lambda: True)
    path = ensemble.members[0]
    with mock.patch("inference.predictor.compiled", lambda network, device: network):
        changed = maps(tmp_path).key(path, sources[0], replace(INFERENCE, **changes))
    assert (changed != maps(tmp_path).key(path, sources[0], INFERENCE)) is another


def test_how_views_are_merged_matters_where_there_are_several(ensemble, sources, tmp_path):
    path, views = ensemble.members[0], replace(INFERENCE, tta_group="d2")
    by_logit = maps(tmp_path).key(path, sources[0], replace(views, tta_merge="logit"))
    assert by_logit != maps(tmp_path).key(path, sources[0], views)
    alone = Ensemble(ensemble.members[:1], mean_of_maps)
    plain = combined(maps(tmp_path), alone, sources[0])
    assert torch.equal(
        combined(maps(tmp_path), alone, sources[0], replace(INFERENCE, tta_merge="logit")).probability,
        plain.probability,
    )


def test_a_map_is_that_of_its_files_normalisation_and_device(ensemble, sources, tmp_path, monkeypatch):
    path = ensemble.members[0]
    before = maps(tmp_path).key(path, sources[0], INFERENCE)
    assert maps(tmp_path).keys(ensemble, sources[0], INFERENCE)[0] == before
    assert maps(tmp_path).key(ensemble.members[1], sources[0], INFERENCE) != before
    assert maps(tmp_path).key(path, sources[1], INFERENCE) != before
    for percentiles in (None, (0.5, 99.0)):
        [other, _] = open_sources(tmp_path, replace(SETTINGS, norm_percentiles=percentiles))
        assert maps(tmp_path).key(path, other, INFERENCE) != before
    keys = {before}
    for matching, spectrum in (("auto", (1.0,) * 32), ("on", (1.0,) * 32), ("on", (2.0,) * 32)):
        [other, _] = open_sources(tmp_path, replace(SETTINGS, match_spectrum=matching, spectrum=spectrum))
        keys.add(maps(tmp_path).key(path, other, INFERENCE))
    assert len(keys) == 4
    [unfiltered, _] = open_sources(tmp_path, replace(SETTINGS, spectrum=(2.0,) * 32))
    assert maps(tmp_path).key(path, unfiltered, INFERENCE) == before
    copy = tmp_path / "copy.ckpt"
    copy.write_bytes(path.read_bytes())
    assert maps(tmp_path).key(copy, sources[0], INFERENCE) == before
    tiny_campaign.write_checkpoint(copy, 0, seed=9)
    assert maps(tmp_path).key(copy, sources[0], INFERENCE) != before
    monkeypatch.setattr(NetworkMaps, "window", lambda *_: (24, 32, 32))
    assert maps(tmp_path, device="cuda").key(path, sources[0], INFERENCE) != before
    monkeypatch.setattr(inference.maps.network_maps, "FORMAT", inference.maps.network_maps.FORMAT + 1)
    assert maps(tmp_path).key(path, sources[0], INFERENCE) != before


# --- Windows ------------------------------------------------------------------------------------------
def test_a_map_of_a_resampled_tomogram_is_another(ensemble, sources, tmp_path):
    native = maps(tmp_path).key(ensemble.members[0], sources[0], INFERENCE)
    keys = {native}
    for spacing in (13.0, 13.1):
        resampling = replace(SETTINGS, rescale=True, voxel_spacing_angstrom=spacing)
        keys.add(maps(tmp_path).key(ensemble.members[0], open_sources(tmp_path, resampling)[0], INFERENCE))
    assert len(keys) == 3
    unchanged = open_sources(tmp_path, replace(SETTINGS, rescale=True))[0]
    assert maps(tmp_path).key(ensemble.members[0], unchanged, INFERENCE) == native


def test_windows_and_keys_do_not_depend_on_what_is_free(ensemble, sources, tmp_path, monkeypatch):
    """Of a machine with little memory they do, when maps must be made, and of what there is nothing is made again."""
    monkeypatch.setattr(Predictor, "predicted_bytes", lambda self, plan: 10**9 * math.prod(plan.grid.window_zyx))
    monkeypatch.setattr(Planner, "plans", lambda self, shape: [self.plan(shape, (24, side, 32)) for side in (32, 16)])
    auto = replace(INFERENCE, window="auto", cpu_memory_gb=24 * 32 * 32.0)
    keys, windows = [], []
    for free in (64, 24, 0.6):
        monkeypatch.setattr(
            "inference.predictor.free_memory_bytes", lambda *_, free=free, **__: free * 10**9 * 24 * 32 * 32
        )
        these = maps(tmp_path / str(free))
        with pytest.warns(UserWarning, match="windows of 24 x 16 x 32") if free < 1 else nullcontext():
            combined(these, ensemble, sources[0], auto)
        keys.append(these.keys(ensemble, sources[0], auto))
        windows.append(these.windows(ensemble, sources[0], auto))
    assert keys[0] == keys[1] != keys[2]
    assert windows == [((24, 32, 32),), ((24, 32, 32),), ((24, 16, 32),)]
    again = maps(tmp_path / "0.6")
    with pytest.warns(UserWarning, match="windows of 24 x 16 x 32"):
        combined(again, ensemble, sources[0], auto)
    assert len(again.timings.read()) == 2 and again.keys(ensemble, sources[0], auto) == keys[2]


def test_a_limit_makes_windows_smaller_before_networks_run(ensemble, sources, tmp_path):
    """Whatever the process holds already; as low as the least that any window needs."""
    auto, path = replace(INFERENCE, window="auto"), ensemble.members[0]
    predictor = Predictor([load_checkpoint(path)[0]], auto, torch.device("cpu"))
    shape = (200, 200, 200)
    least = min(map(predictor.predicted_bytes, predictor._planner.plans(shape)))
    limited = replace(auto, max_memory_gb=least / 1e9)
    assert maps(tmp_path).window(path, limited, shape) != maps(tmp_path).window(path, auto, shape)
    with pytest.raises(InputError, match="--max_memory_gb"):
        maps(tmp_path).window(path, replace(auto, max_memory_gb=least / 1e9 - 1e-3), shape)
    roomy = replace(auto, max_memory_gb=50.0)
    assert maps(tmp_path).key(path, sources[0], roomy) == maps(tmp_path).key(path, sources[0], auto)


def test_where_memory_runs_out_all_maps_are_those_of_the_smaller_window(ensemble, sources, tmp_path, monkeypatch):
    """Stored as such, of the networks before, too; the next tomograms of that shape begin with it."""
    predict, calls = Predictor._predict, []

    def with_little_memory(self, volume, plan, progress):
        calls.append(plan.grid.window_zyx)
        if len(calls) > 1 and plan.grid.window_zyx[1] > 16:  # from the second network on
            raise MemoryError
        return predict(self, volume, plan, progress)

    auto, these = replace(INFERENCE, window="auto"), maps(tmp_path)
    before = these.keys(ensemble, sources[0], auto)
    monkeypatch.setattr(Predictor, "_predict", with_little_memory)
    with pytest.warns(UserWarning, match="out of memory"):
        found = combined(these, ensemble, sources[0], auto)
    keys, [window] = these.keys(ensemble, sources[0], auto), these.windows(ensemble, sources[0], auto)
    assert not set(keys) & set(before) and window[1] <= 16 and calls[0] == (24, 32, 32)
    assert all((tmp_path / "maps" / f"{sources[0].name}-{key}{SUFFIX}").is_file() for key in keys)
    calls.clear()
    combined(these, ensemble, sources[1], auto)  # without another retreat
    assert calls == [window] * 2
    asked_for = replace(INFERENCE, window=window)
    assert maps(tmp_path).keys(ensemble, sources[0], asked_for) == keys
    assert torch.equal(combined(maps(tmp_path), ensemble, sources[0], asked_for).probability, found.probability)


# --- Networks -----------------------------------------------------------------------------------------
def test_a_network_that_diverged_is_named(ensemble, sources, tmp_path):
    checkpoint = torch.load(ensemble.members[0], weights_only=True)
    for weights in checkpoint["state_dict"].values():
        if weights.is_floating_point():
            weights.fill_(torch.nan)
    torch.save(checkpoint, ensemble.members[0])
    with pytest.raises(InputError, match=r"0\.ckpt: its probabilities on TS_7 are not numbers"):
        combined(maps(tmp_path), ensemble, sources[0])
    assert not list((tmp_path / "maps").glob(f"*{SUFFIX}"))


def test_networks_stay_ready_until_there_is_no_room(ensemble, monkeypatch, tmp_path):
    these = maps(tmp_path)
    first = these._predictor(ensemble.members[0], INFERENCE)
    assert these._predictor(ensemble.members[0], INFERENCE) is first
    monkeypatch.setattr(inference.maps.network_maps, "RESIDENT_BYTES", 0)
    these._predictor(ensemble.members[1], INFERENCE)
    assert these._predictor(ensemble.members[0], INFERENCE) is not first
