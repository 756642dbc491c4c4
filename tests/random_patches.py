"""Training patches of noise."""

import torch


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def patch(shape=(6, 8, 8), count=1):
    """(image, label): normal noise, and 1 where it is above 0."""
    image = torch.randn(count, 1, *shape, generator=seeded(0))
    return image, (image[:, 0] > 0).to(torch.uint8)
