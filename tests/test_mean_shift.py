"""Mean shift on hand-drawn maps, and against scikit-learn on the same voxels."""

import numpy as np
import pytest
import torch
from one_class import find
from scipy.spatial import KDTree
from scipy.spatial.distance import pdist
from sklearn.cluster import MeanShift

from errors import InputError
from postprocessing.class_voxels import voxels_above
from postprocessing.mean_shift import mean_shift, sizes_and_scores

OPTIONS = {
    "radius_voxels": 8.0,
    "trained_radius_voxels": 4.0,
    "conf_threshold": 0.5,
    "cluster_radius_fraction": 1.2,
    "min_cluster_vol_frac": 0.2,
    "nms_radius_fraction": 0.0,
}
SHAPE = (28, 36, 44)


def run(volume, **changes):
    return find(volume, "meanshift", **{**OPTIONS, **changes})


def balls(*centres, radius=4.0, shape=SHAPE):
    """Probability 0.9 within the radius."""
    return 0.9 * (distances(centres, shape) <= radius).float()


def distances(centres, shape=SHAPE):
    grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1)
    return torch.from_numpy(KDTree(np.array(centres, dtype=float)).query(grid)[0])


def noisy(centres, seed, noise=0.15, radius=4.0, shape=SHAPE):
    soft = torch.sigmoid((radius - distances(centres, shape)) / (0.15 * radius)).numpy()
    return torch.from_numpy(soft + np.random.default_rng(seed).normal(0, noise, shape)).clamp(0, 1).float()


APART = [(6, 8, 9.5), (7.3, 25, 12), (19, 12, 30.2), (20, 27.6, 34)]
TOUCHING = [(13, 13, 12), (13, 13, 20), (13, 20.5, 16)]
SCENES = {
    "apart": balls(*APART),
    "touching": balls(*TOUCHING),
    "noisy, apart": noisy(APART, seed=0),
    "noisy, touching": noisy(TOUCHING, seed=1),
    "noisy, many specks": noisy(APART, seed=2, noise=0.22),
    "elongated": balls(*[(13, 10 + 0.5 * step, 8 + 0.9 * step) for step in range(32)], radius=3.0),
}

TINY_SHAPE = (11, 15, 19)
TINY_APART, TINY_TOUCHING = [(3, 4.3, 5), (6, 10, 13.2)], [(5, 6, 7), (5, 6, 11), (5, 9.5, 9)]
TINY_SCENES = {
    "apart": balls(*TINY_APART, radius=2.3, shape=TINY_SHAPE),
    "touching": balls(*TINY_TOUCHING, radius=2.0, shape=TINY_SHAPE),
    "noisy": noisy(TINY_TOUCHING, seed=3, noise=0.25, radius=2.0, shape=TINY_SHAPE),
    "elongated": balls(*[(5, 5, 4 + step) for step in range(12)], radius=1.5, shape=TINY_SHAPE),
    "solid": balls((3, 3, 3), radius=2.9, shape=(7, 7, 7)),
}


def large_clusters(modes, labels, least=40):
    sizes = np.bincount(labels, minlength=len(modes))
    return modes[sizes >= least], sizes[sizes >= least]


@pytest.mark.parametrize("scene", TINY_SCENES)
def test_exactly_scikit_learn_when_every_path_is_followed(scene):
    voxels = voxels_above(TINY_SCENES[scene], 0.5)
    modes, cluster = mean_shift(voxels, 2.2, bin_fraction=0)
    theirs = MeanShift(bandwidth=2.2).fit(voxels.numpy())
    assert modes == pytest.approx(theirs.cluster_centers_, abs=1e-9)
    # A voxel as far from two modes belongs to either.
    to_modes = np.linalg.norm(voxels.numpy()[:, None] - modes, axis=-1)
    places = np.arange(len(voxels))
    assert to_modes[places, cluster] == pytest.approx(to_modes[places, theirs.labels_])


# Along a ridge, and where the kernel is no wider than an even ball, modes are where the seeds happen to stand.
@pytest.mark.parametrize("bandwidth", [4.4, 4.8])
@pytest.mark.parametrize("scene", [name for name in SCENES if name != "elongated"])
def test_same_clusters_as_scikit_learn_with_its_bins(scene, bandwidth):
    voxels = voxels_above(SCENES[scene], 0.5)
    modes, cluster = mean_shift(voxels, bandwidth)
    theirs = MeanShift(bandwidth=bandwidth, bin_seeding=True).fit(voxels.numpy())
    ours, sizes = large_clusters(modes, cluster.numpy())
    expected, expected_sizes = large_clusters(theirs.cluster_centers_, theirs.labels_)
    distance, match = KDTree(ours).query(expected)
    assert len(ours) == len(expected) == len(set(match)) and len(ours) >= 3
    assert distance.max() <= 0.1 * bandwidth
    assert np.abs(sizes[match] / expected_sizes - 1).max() < 0.05


@pytest.mark.parametrize("scene", SCENES)
def test_voxels_belong_to_the_nearest_mode(scene):
    voxels = voxels_above(SCENES[scene], 0.5)
    modes, cluster = mean_shift(voxels, 3.0)
    to_all = np.linalg.norm(voxels.numpy()[:, None] - modes, axis=-1)
    assert np.allclose(to_all[np.arange(len(voxels)), cluster], to_all.min(axis=1))


@pytest.mark.parametrize("scene", SCENES)
def test_modes_are_means_of_their_surroundings_and_apart(scene):
    voxels = voxels_above(SCENES[scene], 0.5)
    modes, _ = mean_shift(voxels, 4.0)
    for mode in modes:
        near = np.linalg.norm(voxels.numpy() - mode, axis=1) <= 4.0
        assert np.linalg.norm(voxels.numpy()[near].mean(axis=0) - mode) <= 4e-3
    assert pdist(modes).min() > 4.0


def test_touching_balls_are_parted_where_components_are_not():
    found = run(balls(*TOUCHING), cluster_radius_fraction=1.2)
    assert len(found) == 3
    assert KDTree(TOUCHING).query(found.coordinates_zyx)[0].max() < 0.5


def test_one_voxel():
    volume = torch.zeros(5, 6, 7)
    volume[1, 2, 6] = 0.8
    found = run(volume, min_cluster_vol_frac=0.0)
    assert found.coordinates_zyx.tolist() == [[1, 2, 6]] and found.scores.tolist() == [pytest.approx(0.8)]


def test_balls_at_the_border_are_found_in_what_is_left_of_them():
    found = run(balls((0, 0, 0), (27, 35, 43)))
    assert len(found) == 2 and np.all(np.isin(np.rint(found.coordinates_zyx[:, 0]), [1, 2, 25, 26]))


def test_a_plate_ends_in_a_packing():
    """Every voxel well inside is a mode of its own: they go by the thousand, in the order of place."""
    volume = torch.zeros(12, 90, 90)
    volume[4:8, 5:85, 5:85] = 1.0
    found = run(volume)
    assert len(found) < 4 * 80 * 80 / 40 and pdist(found.coordinates_zyx).min() > 4.0
    assert np.array_equal(run(volume).coordinates_zyx, found.coordinates_zyx)


def test_confidence_threshold_is_obeyed_and_exclusive():
    volume = balls((8, 8, 8)) + 0.5 / 0.9 * balls((20, 26, 30))
    assert len(run(volume, conf_threshold=float(volume[20, 26, 30]))) == 1
    assert len(run(volume, conf_threshold=0.4)) == 2
    assert len(run(volume, conf_threshold=0.95)) == 0


def test_bandwidth_decides_what_is_one():
    pair = balls((13, 13, 12), (13, 13, 18), radius=2.5)
    assert len(run(pair, cluster_radius_fraction=0.7)) == 2
    found = run(pair, cluster_radius_fraction=2.0)
    assert found.coordinates_zyx.tolist() == [[13, 13, 15]]
    with pytest.raises(InputError, match="cluster_radius_fraction"):
        run(pair, cluster_radius_fraction=0.0)


def test_bandwidth_is_in_radii_of_the_targets():
    pair = balls((13, 13, 12), (13, 13, 18), radius=2.5)
    assert len(run(pair, trained_radius_voxels=2.8)) == 2
    assert len(run(pair, trained_radius_voxels=8.0, min_cluster_vol_frac=0.0)) == 1


def test_small_clusters_go():
    volume = torch.zeros(14, 14, 14)
    volume[1, 1, 1] = 1.0
    volume[7:10, 7:10, 7:10] = 1.0  # 27 voxels; the trained sphere has 33.5
    options = {"trained_radius_voxels": 2.0, "cluster_radius_fraction": 1.3}
    assert run(volume, **options, min_cluster_vol_frac=0.8).coordinates_zyx.tolist() == [[8, 8, 8]]
    assert len(run(volume, **options, min_cluster_vol_frac=0.81)) == 0
    assert len(run(volume, **options, min_cluster_vol_frac=0.0)) == 2


def test_suppression_keeps_the_surer_one():
    pair = balls((13, 13, 12), (13, 13, 22)) * torch.linspace(0.8, 1.0, SHAPE[2])
    assert len(run(pair, nms_radius_fraction=1.2)) == 2
    found = run(pair, nms_radius_fraction=1.3)
    assert found.coordinates_zyx.tolist() == [[13, 13, 22]]


def test_scores_are_percentiles_of_the_cluster():
    values = torch.tensor([0.9, 0.1, 0.5, 0.7, 0.3, 0.2, 0.6])
    cluster = torch.tensor([0, 2, 0, 0, 2, 0, 0])
    sizes, scores = sizes_and_scores(cluster, values, 4)
    assert sizes.tolist() == [5, 0, 2, 0]
    assert scores[[0, 2]] == pytest.approx([np.percentile(values[cluster == k], 90) for k in (0, 2)], abs=1e-6)
    assert np.isnan(scores[[1, 3]]).all()
    volume = noisy([(13, 17, 21)], seed=0)
    assert run(volume).scores[0] == pytest.approx(np.percentile(volume[volume > 0.5], 90), abs=0.01)


def test_a_moved_map_moves_the_particles():
    volume = torch.zeros(40, 50, 90)
    volume[:28, :36, :44] = SCENES["noisy, apart"]
    found = run(volume)
    moved = run(volume.roll((9, 12, 41), (0, 1, 2)))
    assert len(found) == 4 and np.array_equal(found.scores, moved.scores)
    assert moved.coordinates_zyx == pytest.approx(found.coordinates_zyx + np.array([9, 12, 41]))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("scene", SCENES)
def test_a_gpu_gives_the_same_to_the_last_bit(scene):
    ours, theirs = run(SCENES[scene]), run(SCENES[scene].cuda())
    assert np.array_equal(ours.coordinates_zyx, theirs.coordinates_zyx)
    assert np.array_equal(ours.scores, theirs.scores)
