"""Spatial transforms of patches: flips and quarter turns without blurring, small affine maps by interpolation.

``anisotropic`` treats the beam apart, as the missing wedge does: where the beam is z (tilt axis y or x), z is flipped
but never mixed with x or y; where it is y (tilt axis z), y is not mixed with x or z.
``wedge`` leaves out the quarter turns as well, which turn the missing wedge: flips alone map it onto itself.
``isotropic`` treats the three axes alike. A matrix M transforms a patch so that output voxel p shows input voxel M p,
both counted from the centre of the patch, zyx. Matrices stay on the CPU, so that nothing here makes a GPU wait.
"""

import math
from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional

from tta.orientations import ORIENTATIONS, Orientation, apply, beam_axis, inverse, turned

# Mode -> the group of orientations that it draws from.
MODES = {"anisotropic": "d4h", "wedge": "d2h", "isotropic": "oh"}

# Small affine: large enough to blur the grid, small enough to keep particles what they are.
AFFINE_PROBABILITY = 0.3
MAX_ROTATION_DEGREES = 15.0
MAX_SCALE = 0.05
# Planes interpolated by one thread at a time, as few as make up for finding the coordinates anew.
PLANES_TOGETHER = 32


@cache
def allowed_orientations(
    mode: str, patch_size_zyx: tuple[int, int, int], tilt_axis: str = "y"
) -> tuple[Orientation, ...]:
    """All flips and quarter turns that map the patch onto itself and that the mode allows.

    Parameters
    ----------
    mode : a key of MODES
    patch_size_zyx : voxels; axes of unequal length are never exchanged
    tilt_axis : of the data, a name in tta.orientations.TILT_AXES

    Returns
    -------
    16 for an anisotropic patch whose sides across the beam are equal, 8 for wedge.
    """
    group = sorted(turned(ORIENTATIONS[MODES[mode]], tilt_axis), key=inverse)
    return tuple(one for one in group if tuple(patch_size_zyx[axis] for axis in one.order) == tuple(patch_size_zyx))


def matrix_of(orientation: Orientation) -> Tensor:
    """(3, 3) signed permutation: output voxel p of tta.orientations.apply shows input voxel M p."""
    matrix = torch.zeros(3, 3)
    for axis, (source, flip) in enumerate(zip(orientation.order, orientation.flips, strict=True)):
        matrix[source, axis] = -1.0 if flip else 1.0
    return matrix


def small_affine(count: int, mode: str, generator: torch.Generator, tilt_axis: str = "y") -> Tensor:
    """Random small rotations (about the beam only, unless isotropic) with isotropic scaling.

    Returns
    -------
    (count, 3, 3) matrices acting on zyx vectors; identity for those not drawn.
    """
    axes = range(3) if mode == "isotropic" else [beam_axis(tilt_axis)]
    angles = torch.deg2rad((2 * torch.rand(count, len(axes), generator=generator) - 1) * MAX_ROTATION_DEGREES)
    scale = 1 + (2 * torch.rand(count, generator=generator) - 1) * MAX_SCALE
    drawn = torch.rand(count, generator=generator) < AFFINE_PROBABILITY
    matrix = torch.eye(3).repeat(count, 1, 1)
    for k, about in enumerate(axes):
        i, j = [axis for axis in range(3) if axis != about]
        turn = torch.eye(3).repeat(count, 1, 1)
        turn[:, i, i] = turn[:, j, j] = torch.cos(angles[:, k])
        turn[:, j, i] = torch.sin(angles[:, k])
        turn[:, i, j] = -turn[:, j, i]
        matrix = turn @ matrix
    matrix = matrix * scale[:, None, None]
    return torch.where(drawn[:, None, None], matrix, torch.eye(3))


def transform_patches(
    image: Tensor, label: Tensor, orientations: Sequence[Orientation], affine: Tensor, *, single_voxels: bool = False
) -> tuple[Tensor, Tensor]:
    """Apply to every patch its affine map, then its orientation: all in one interpolation, in none without affine map.

    Parameters
    ----------
    image : (B, 1, Z, Y, X) float
    label : (B, Z, Y, X) integer
    orientations : B of those from :func:`allowed_orientations`
    affine : (B, 3, 3); where it is the identity, voxels are moved and not interpolated
    single_voxels : labels are single voxels, moved as points, see :func:`move_points`

    Returns
    -------
    New (image, label) of the same shapes and types.
    """
    images, labels = torch.empty_like(image), torch.empty_like(label)
    identity = torch.eye(3)
    move_label = move_points if single_voxels else sample_label
    for k, (orientation, distortion) in enumerate(zip(orientations, affine, strict=True)):
        if torch.equal(distortion, identity):
            images[k, 0], labels[k] = apply(image[k, 0], orientation), apply(label[k], orientation)
        else:
            together = matrix_of(orientation) @ distortion
            images[k, 0], labels[k] = sample_image(image[k, 0], together), move_label(label[k], together)
    return images, labels


def sample_image(image: Tensor, matrix: Tensor) -> Tensor:
    """Interpolate a patch linearly under a linear map about its centre.

    Parameters
    ----------
    image : (Z, Y, X) float
    matrix : (3, 3) acting on zyx vectors in voxels: output voxel p shows input voxel M p. Beyond the border the
        patch is mirrored.

    Returns
    -------
    Of the same shape. Where the matrix does not mix z with x or y, z is interpolated first and all planes at once
    after it: the same result, several times faster.
    """
    if mixes_z(matrix):
        return _sample(image[None], matrix, "bilinear")[0]
    below, above, share = _planes_along_z(len(image), float(matrix[0, 0]), image.device)
    neighbours, shares = torch.stack((below, above), dim=1), torch.stack((1 - share, share), dim=1)
    # Sums of two planes each, without the copies of them that an index would make.
    planes = functional.embedding_bag(neighbours, image.flatten(1), per_sample_weights=shares, mode="sum")
    return _sample_planes(planes.view(image.shape), matrix[1:, 1:], "bilinear")


def sample_label(label: Tensor, matrix: Tensor) -> Tensor:
    """Labels (Z, Y, X) under the map of :func:`sample_image`; each voxel shows the nearest one."""
    if mixes_z(matrix):
        return _sample(label[None].float(), matrix, "nearest")[0].to(label.dtype)
    below, above, share = _planes_along_z(len(label), float(matrix[0, 0]), label.device)
    planes = label[torch.where(share < 0.5, below, above)]
    return _sample_planes(planes.float(), matrix[1:, 1:], "nearest").to(label.dtype)


def mixes_z(matrix: Tensor) -> bool:
    return bool(matrix[0, 1:].any() or matrix[1:, 0].any())


def _sample(channels: Tensor, matrix: Tensor, interpolation: str) -> Tensor:
    """(C, Z, Y, X) under a (3, 3) matrix."""
    return _sample_batch(channels[None], matrix, interpolation)[0]


def _sample_planes(planes: Tensor, matrix: Tensor, interpolation: str) -> Tensor:
    """(Z, Y, X) plane by plane under a (2, 2) matrix, which is the same for all of them."""
    # A batch of several channels: torch deals out a batch to threads, and so few planes stay in their caches.
    together = math.gcd(len(planes), PLANES_TOGETHER)
    batch = planes.view(-1, together, *planes.shape[1:])
    return _sample_batch(batch, matrix, interpolation).view(planes.shape)


def _sample_batch(batch: Tensor, matrix: Tensor, interpolation: str) -> Tensor:
    """(B, C, ...) under one (n, n) matrix about the centre of the n axes."""
    theta = _sampling_matrix(matrix, batch.shape[2:]).to(batch.device, non_blocking=True)
    grid = functional.affine_grid(theta[None], [1, 1, *batch.shape[2:]], align_corners=False)
    return functional.grid_sample(
        batch,
        grid.expand(len(batch), *grid.shape[1:]),
        mode=interpolation,
        padding_mode="reflection",
        align_corners=False,
    )


def _sampling_matrix(matrix: Tensor, shape: tuple[int, ...]) -> Tensor:
    """(n, n + 1) matrix for affine_grid, which wants x first and coordinates scaled to -1..1 by the sides."""
    half = torch.tensor(shape, dtype=torch.float32) / 2
    linear = (matrix * half[None, :] / half[:, None]).flip(0, 1)
    return torch.cat((linear, torch.zeros(len(half), 1)), dim=1)


def _planes_along_z(length: int, factor: float, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Plane p shows plane ``factor`` * p, both counted from the middle: its neighbours, and the share of the upper."""
    last = length - 1
    plane = (torch.arange(length, device=device) - last / 2) * factor + last / 2
    plane = (plane + 0.5).remainder(2 * length)  # mirrored at both ends
    plane = (torch.minimum(plane, 2 * length - plane) - 0.5).clamp(0, last)
    below = plane.floor().long()
    return below, (below + 1).clamp(max=last), plane - below


def move_points(label: Tensor, matrix: Tensor) -> Tensor:
    """Move labels of single voxels, each to the voxel nearest to its new position.

    Sampling them would lose or double a voxel wherever the grid is stretched.

    Parameters
    ----------
    label : (Z, Y, X) integer, 0 for background
    matrix : (3, 3) invertible, as for :func:`sample_image`

    Returns
    -------
    Of the same shape and type. Every labelled voxel that stays inside comes out once; of two that meet in one voxel
    the higher label stays; those that leave the patch are gone, and mirrored images of them carry no label.
    """
    shape = label.shape
    z, y, x = (
        (torch.arange(side, device=label.device) - (side - 1) / 2).view([-1 if k == axis else 1 for k in range(3)])
        for axis, side in enumerate(shape)
    )
    index = torch.zeros(1, dtype=torch.long, device=label.device)
    inside = torch.ones(1, dtype=torch.bool, device=label.device)
    for side, (to_z, to_y, to_x) in zip(shape, torch.linalg.inv(matrix).tolist(), strict=True):
        position = (to_z * z + to_y * y + to_x * x + (side - 1) / 2).round().long()
        inside = inside & (position >= 0) & (position < side)
        index = index * side + position
    # Voxels that leave the patch share one element behind the last: finding the few labels would make a GPU wait.
    index = torch.where(inside, index, label.numel()).flatten()
    moved = torch.zeros(label.numel() + 1, dtype=torch.int32, device=label.device)
    moved.scatter_reduce_(0, index, label.flatten().int(), "amax")
    return moved[:-1].view(shape).to(label.dtype)
