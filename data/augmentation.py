"""Augmentation of a whole batch on its device: all geometry of a patch in one resampling.

``anisotropic`` treats z apart, as the missing wedge does: z is flipped but never mixed with x or y.
``isotropic`` treats the three axes alike.
"""

import itertools

import torch
from torch import Tensor
from torch.nn import functional

MODES = ("anisotropic", "isotropic")

# Small affine: large enough to blur the grid, small enough to keep particles what they are.
AFFINE_PROBABILITY = 0.3
MAX_ROTATION_DEGREES = 15.0
MAX_SCALE = 0.05


def lattice_transforms(mode: str, patch_size_zyx: tuple[int, int, int]) -> Tensor:
    """All flips and quarter turns that map the patch onto itself and that the mode allows.

    Parameters
    ----------
    mode : anisotropic (z stays z, up to its sign) or isotropic
    patch_size_zyx : voxels; axes of unequal length are never exchanged

    Returns
    -------
    (N, 3, 3) signed permutation matrices acting on zyx vectors; 16 for an anisotropic patch with Y = X.
    """
    matrices = []
    for order in itertools.permutations(range(3)):
        if mode == "anisotropic" and order[0] != 0:
            continue
        if any(patch_size_zyx[axis] != patch_size_zyx[order[axis]] for axis in range(3)):
            continue
        for signs in itertools.product((1.0, -1.0), repeat=3):
            matrix = torch.zeros(3, 3)
            for axis in range(3):
                matrix[axis, order[axis]] = signs[axis]
            matrices.append(matrix)
    return torch.stack(matrices)


def small_affine(count: int, mode: str, generator: torch.Generator) -> Tensor:
    """Random small rotations (about z only when anisotropic) with isotropic scaling.

    Returns
    -------
    (count, 3, 3) matrices acting on zyx vectors; identity for those not drawn.
    """
    axes = 1 if mode == "anisotropic" else 3
    angles = torch.deg2rad((2 * torch.rand(count, axes, generator=generator) - 1) * MAX_ROTATION_DEGREES)
    scale = 1 + (2 * torch.rand(count, generator=generator) - 1) * MAX_SCALE
    drawn = torch.rand(count, generator=generator) < AFFINE_PROBABILITY
    matrix = torch.eye(3).repeat(count, 1, 1)
    for k in range(axes):
        i, j = [axis for axis in range(3) if axis != k]
        turn = torch.eye(3).repeat(count, 1, 1)
        turn[:, i, i] = turn[:, j, j] = torch.cos(angles[:, k])
        turn[:, j, i] = torch.sin(angles[:, k])
        turn[:, i, j] = -turn[:, j, i]
        matrix = turn @ matrix
    matrix = matrix * scale[:, None, None]
    return torch.where(drawn[:, None, None], matrix, torch.eye(3))


def resample(image: Tensor, label: Tensor, matrices: Tensor) -> tuple[Tensor, Tensor]:
    """Resample patches under linear maps about their centres.

    Parameters
    ----------
    image : (B, 1, Z, Y, X) float; interpolated linearly
    label : (B, Z, Y, X) integer; nearest voxel
    matrices : (B, 3, 3) acting on zyx vectors in voxels: output voxel p shows input voxel M p. Beyond the border
        the patch is mirrored.

    Returns
    -------
    (image, label) of the same shapes and types. Flips and quarter turns move voxels without blurring them.
    """
    theta = _sampling_matrices(matrices, image.shape[-3:]).to(image.device)
    grid = functional.affine_grid(theta, list(image.shape), align_corners=False)
    options = {"padding_mode": "reflection", "align_corners": False}
    moved = functional.grid_sample(image, grid, mode="bilinear", **options)
    labels = functional.grid_sample(label[:, None].to(image.dtype), grid, mode="nearest", **options)
    return moved, labels[:, 0].to(label.dtype)


def _sampling_matrices(matrices: Tensor, shape: tuple[int, ...]) -> Tensor:
    """(B, 3, 4) matrices for affine_grid, which wants xyz order and coordinates scaled to -1..1 by the sides."""
    half = torch.tensor(shape, dtype=torch.float32) / 2
    normalised = matrices * half[None, None, :] / half[None, :, None]  # zyx, in units of half the sides
    linear = normalised.flip(1, 2)  # xyz
    return torch.cat((linear, torch.zeros(len(linear), 3, 1)), dim=2)


def augment_base(image: Tensor, label: Tensor, *, mode: str, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Flips, quarter turns and small affine maps.

    Parameters
    ----------
    image : (B, 1, Z, Y, X) float
    label : (B, Z, Y, X) integer
    mode : anisotropic or isotropic
    generator : CPU generator of everything drawn, so that the draw does not depend on the device

    Returns
    -------
    (image, label) of the same shapes
    """
    count = len(image)
    lattice = lattice_transforms(mode, tuple(image.shape[-3:]))
    turns = lattice[torch.randint(len(lattice), (count,), generator=generator)]
    return resample(image, label, turns @ small_affine(count, mode, generator))


def mixup(image: Tensor, target: Tensor, *, probability: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Blend patches with others of the batch, and their targets alike (arXiv 1710.09412).

    Parameters
    ----------
    image : (B, 1, Z, Y, X)
    target : (B, C, Z, Y, X) class probabilities
    probability : of each patch to be blended; its share is drawn from Beta(1, 1), the uniform distribution
    generator : CPU generator of everything drawn

    Returns
    -------
    (image, target) of the same shapes; targets still sum to 1 over the classes.
    """
    count = len(image)
    drawn = torch.rand(count, generator=generator) < probability
    share = torch.where(drawn, torch.rand(count, generator=generator), torch.ones(count))
    share = share.to(image.device).view(-1, 1, 1, 1, 1)
    partner = torch.randperm(count, generator=generator).to(image.device)
    return tuple(share * values + (1 - share) * values[partner] for values in (image, target))
