"""Validation: of every method the hyperparameters that a search would choose, and the F4 that they really give."""

import weakref

import numpy as np
import pandas as pd
import pytest
import torch
from test_checkpoints import DESCRIPTION

from data.picks import picks_table
from detection.proposals import LOWEST_SCORE, propose
from inference.predictor import Prediction
from metrics.calibration import KEYWORDS as CALIBRATION
from metrics.calibration import confidence
from metrics.fbeta import score_picks
from particle_config import PARTICLES
from postprocessing import METHODS, detect
from training.arguments import detection_defaults, validation_grids
from training.validation import HeldOut, validate

SPACING = DESCRIPTION.voxel_spacing_angstrom
SHAPE = (32, 128, 128)


def drawn(places, scores, radius=2.5):
    """A map of one class with a blob of that height at every place."""
    probability = torch.zeros(SHAPE)
    grid = torch.meshgrid(*(torch.arange(side) for side in SHAPE), indexing="ij")
    for place, score in zip(places, scores, strict=True):
        squared = sum((axis - centre) ** 2 for axis, centre in zip(grid, place, strict=True))
        probability = torch.maximum(probability, score * torch.exp(-squared / (2 * radius**2)))
    return probability


def found_in(maps, truth, stride=1):
    """Particle name -> map, particle name -> places in voxels of the map."""
    empty = torch.zeros(SHAPE)
    probability = torch.stack([empty, *(maps.get(p.name, empty) for p in PARTICLES)])
    truth = {name: ((np.array(places, float) + 0.5) * stride - 0.5) * SPACING for name, places in truth.items()}
    prediction = Prediction(probability, None, stride)
    return (
        prediction,
        truth,
        validate([HeldOut("TS_1", prediction, truth)], validation_grids(), detection_defaults(), DESCRIPTION),
    )


def real_f4(prediction, truth, result, method):
    """Particle name -> F4 of what is found with the hyperparameters of the result."""
    found = detect(
        prediction.probability,
        method=method,
        particles=PARTICLES,
        voxel_spacing_angstrom=SPACING,
        trained_radius_fraction=DESCRIPTION.radius_fraction,
        hyperparameters=result.hyperparameters[method],
        map_stride=prediction.stride,
    )
    picks = pd.concat(
        [picks_table("TS_1", name, one.coordinates_zyx * SPACING, one.scores) for name, one in found.items()]
    )
    reference = pd.concat([picks_table("TS_1", *pair) for pair in truth.items()])
    return score_picks(picks, reference).per_particle["f4"].to_dict()


def test_no_threshold_is_lower_than_what_was_looked_at():
    """Below the lowest candidate there are false ones that nobody has seen."""
    places = [(z, y, x) for z in (5, 16, 27) for y in range(5, 128, 11) for x in range(5, 128, 11)]
    np.random.default_rng(0).shuffle(places)
    scores = [*(0.02 + 0.02 * k for k in range(12)), *[0.013] * 218]
    name = "apo-ferritin"
    prediction, truth, result = found_in({name: drawn(places[:230], scores)}, {name: places[:12]})
    assert result.hyperparameters["peak_local_max_gpu"][name]["peak_threshold"] >= LOWEST_SCORE
    assert result.f4[name] == pytest.approx(real_f4(prediction, truth, result, "peak_local_max_gpu")[name])
    assert result.f4[name] > 0.9


@pytest.fixture(scope="module", params=[1, 2])
def noisy(request):
    """Clear, weak and false blobs of two particles; a third is not in the tomogram."""
    rng, maps, truth = np.random.default_rng(7), {}, {}
    for name in ("ribosome", "beta-galactosidase", "thyroglobulin"):
        places = rng.uniform(3, np.array(SHAPE) - 4, (40, 3))
        maps[name] = drawn(places, rng.uniform(0.1, 1, 40), radius=3.0) + 0.05 * torch.rand(
            SHAPE, generator=torch.Generator().manual_seed(3)
        )
        maps[name] = maps[name].clamp(0, 1)
        truth[name] = places[:25]
    del truth["thyroglobulin"]
    return found_in(maps, truth, stride=request.param)


def test_f4_is_that_of_what_is_found_with_the_hyperparameters(noisy):
    prediction, truth, result = noisy
    assert result.f4 == pytest.approx(real_f4(prediction, truth, result, "peak_local_max_gpu"))
    assert 0.3 < result.f4["ribosome"] < 1 and result.f4["thyroglobulin"] == 0


@pytest.mark.parametrize("method", METHODS)
def test_every_method_is_tuned(noisy, method):
    """Better than its defaults, or as good; with a calibration where there are reference points."""
    prediction, truth, result = noisy
    values = result.hyperparameters[method]
    assert set(values) == {p.name for p in PARTICLES}
    for name in truth:
        assert set(values[name]) == {*METHODS[method].keywords, *CALIBRATION}
    assert values["thyroglobulin"] == values["apo-ferritin"] == detection_defaults()[method]
    tuned = real_f4(prediction, truth, result, method)
    defaults = dict.fromkeys([p.name for p in PARTICLES], detection_defaults()[method])
    untuned = real_f4(prediction, truth, type(result)({}, {method: defaults}), method)
    # The default peak threshold happens to suit these maps; the default class voxels are too few.
    gain = sum(tuned.values()) - sum(untuned.values())
    assert gain > (-0.05 if method == "peak_local_max_gpu" else 0.3)


def test_clear_candidates_are_surer_than_weak_ones(noisy):
    _, _, result = noisy
    strong, weak = confidence(np.array([0.9, 0.05]), result.hyperparameters["peak_local_max_gpu"]["ribosome"])
    assert strong > weak


def test_class_voxels_without_end_are_not_searched(monkeypatch):
    """A network at its first epochs: watershed and mean shift of half a tomogram would take hours."""
    name = "ribosome"
    searched = {}

    def counting(prediction, settings, particles, **where):
        searched[settings.method] = float(prediction.probability[4].max())
        return propose(prediction, settings, particles, **where)

    monkeypatch.setattr("training.validation.propose", counting)
    _, _, result = found_in({name: torch.full(SHAPE, 0.6)}, {name: [(16, 64, 64)]})
    assert searched == {method: pytest.approx(0.6 if method == "peak_local_max_gpu" else 0.0) for method in METHODS}
    assert result.hyperparameters["meanshift"][name] == detection_defaults()["meanshift"]


def test_two_tomograms_are_tuned_together():
    """One set of thresholds for both, whose F4 is that of all their picks together, with a false blob in the second."""
    rng, name, held_out, references = np.random.default_rng(3), "ribosome", [], []
    for run, scores in (("TS_1", rng.uniform(0.5, 1, 12)), ("TS_2", rng.uniform(0.2, 0.7, 12))):
        places = [(z, y, x) for z in (8, 22) for y in (20, 60, 100) for x in (20, 60, 100)][:14]
        maps = torch.zeros(7, *SHAPE)
        maps[1 + [p.name for p in PARTICLES].index(name)] = drawn(places, [*scores, 0.1 if run == "TS_1" else 0.6, 0.1])
        truth = {name: np.array(places[:12], float) * SPACING}
        held_out.append(HeldOut(run, Prediction(maps, None, 1), truth))
        references.append(picks_table(run, name, truth[name]))
    result = validate(iter(held_out), validation_grids(), detection_defaults(), DESCRIPTION)
    picks = []
    for one in held_out:
        found = detect(
            one.prediction.probability,
            method="peak_local_max_gpu",
            particles=PARTICLES,
            voxel_spacing_angstrom=SPACING,
            trained_radius_fraction=DESCRIPTION.radius_fraction,
            hyperparameters=result.hyperparameters["peak_local_max_gpu"],
            map_stride=1,
        )[name]
        picks.append(picks_table(one.run_name, name, found.coordinates_zyx * SPACING, found.scores))
    score = score_picks(pd.concat(picks), pd.concat(references)).per_particle["f4"]
    assert result.f4[name] == pytest.approx(score[name]) and 0.9 < score[name] < 1


def test_one_map_at_a_time_is_in_memory():
    """That of a tomogram is gone before the next is predicted."""
    maps = []

    def predicted():
        for run in ("TS_1", "TS_2"):
            assert not any(one() is not None for one in maps)
            probability = torch.zeros(7, *SHAPE)
            maps.append(weakref.ref(probability))
            one = HeldOut(run, Prediction(probability, None, 1), {"ribosome": np.full((1, 3), 50.0)})
            del probability
            yield one
            del one

    validate(predicted(), validation_grids(), detection_defaults(), DESCRIPTION)
    assert len(maps) == 2
