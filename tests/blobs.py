"""Maps that are nearly empty, as those of networks are."""

import numpy as np
import torch


def blobs(shape, seed=0, count=5):
    rng = np.random.default_rng(seed)
    volume = 0.005 * rng.random(shape)
    for _ in range(count):
        low = rng.integers(0, np.subtract(shape, 3))
        volume[tuple(slice(a, a + 3) for a in low)] = rng.random()
    return torch.from_numpy(volume).float()


def whole(volume):
    return tuple(slice(0, side) for side in volume.shape)
