"""Moving patches: flips and quarter turns without blurring, small affine maps in one resampling with them.

``anisotropic`` treats z apart, as the missing wedge does: z is flipped but never mixed with x or y.
``isotropic`` treats the three axes alike. A matrix M moves a patch so that output voxel p shows input voxel M p, both
counted from the centre of the patch, zyx. Matrices stay on the CPU, so that nothing here makes a GPU wait.
"""

import itertools
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional

MODES = ("anisotropic", "isotropic")

# Small affine: large enough to blur the grid, small enough to keep particles what they are.
AFFINE_PROBABILITY = 0.3
MAX_ROTATION_DEGREES = 15.0
MAX_SCALE = 0.05


@cache
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


def move(
    image: Tensor, label: Tensor, turns: Tensor, affine: Tensor, *, single_voxels: bool = False
) -> tuple[Tensor, Tensor]:
    """Move every patch by its turn after its affine map; those with an affine map are resampled together.

    Parameters
    ----------
    image : (B, 1, Z, Y, X) float
    label : (B, Z, Y, X) integer
    turns : (B, 3, 3) signed permutations from :func:`lattice_transforms`
    affine : (B, 3, 3); where it is the identity, voxels are moved and not interpolated
    single_voxels : labels are single voxels, moved as points, see :func:`move_points`

    Returns
    -------
    New (image, label) of the same shapes and types.
    """
    moved, labels = torch.empty_like(image), torch.empty_like(label)
    identity = torch.eye(3)
    resampled = [k for k in range(len(image)) if not torch.equal(affine[k], identity)]
    for k in set(range(len(image))) - set(resampled):
        moved[k, 0], labels[k] = turn(image[k, 0], turns[k]), turn(label[k], turns[k])
    if resampled:
        matrices = torch.stack([turns[k] @ affine[k] for k in resampled])
        images, patches = (torch.stack([values[k] for k in resampled]) for values in (image, label))
        move_labels = move_points if single_voxels else sample_labels
        results = sample_image(images, matrices), move_labels(patches, matrices)
        for place, k in enumerate(resampled):
            moved[k], labels[k] = results[0][place], results[1][place]
    return moved, labels


def turn(values: Tensor, matrix: Tensor) -> Tensor:
    """A (Z, Y, X) array under one signed permutation; its voxels move and keep their values."""
    axes = [0, 0, 0]
    for axis, row in enumerate(matrix.tolist()):
        axes[next(place for place in range(3) if row[place])] = axis
    return values.permute(axes).flip([place for place in range(3) if matrix[axes[place], place] < 0])


def sample_image(image: Tensor, matrices: Tensor) -> Tensor:
    """Interpolate patches linearly under linear maps about their centres.

    Parameters
    ----------
    image : (B, 1, Z, Y, X) float
    matrices : (B, 3, 3) acting on zyx vectors in voxels: output voxel p shows input voxel M p. Beyond the border
        the patch is mirrored.

    Returns
    -------
    Of the same shape. Where no matrix mixes z with x or y, planes are resampled at once and z after them: the same
    interpolation, several times faster.
    """
    return _sampler(matrices)(image, matrices, "bilinear")


def sample_labels(label: Tensor, matrices: Tensor) -> Tensor:
    """Labels (B, Z, Y, X) under the maps of :func:`sample_image`; each voxel shows the nearest one."""
    return _sampler(matrices)(label[:, None].float(), matrices, "nearest")[:, 0].to(label.dtype)


def _sampler(matrices: Tensor) -> Callable[[Tensor, Tensor, str], Tensor]:
    return _sample_volume if matrices[:, 0, 1:].any() or matrices[:, 1:, 0].any() else _sample_planes


def _sample_volume(values: Tensor, matrices: Tensor, interpolation: str) -> Tensor:
    theta = _sampling_matrices(matrices, values.shape[-3:]).to(values.device, non_blocking=True)
    grid = functional.affine_grid(theta, list(values.shape), align_corners=False)
    return functional.grid_sample(values, grid, mode=interpolation, padding_mode="reflection", align_corners=False)


def _sample_planes(values: Tensor, matrices: Tensor, interpolation: str) -> Tensor:
    planes = values[:, 0]  # z becomes the channels of a two-dimensional image
    theta = _sampling_matrices(matrices[:, 1:, 1:], planes.shape[-2:]).to(values.device, non_blocking=True)
    grid = functional.affine_grid(theta, list(planes.shape), align_corners=False)
    planes = functional.grid_sample(planes, grid, mode=interpolation, padding_mode="reflection", align_corners=False)
    along_z = [
        _sample_z(column, float(matrix[0, 0]), interpolation) for column, matrix in zip(planes, matrices, strict=True)
    ]
    return torch.stack(along_z)[:, None]


def _sample_z(planes: Tensor, factor: float, interpolation: str) -> Tensor:
    """Plane p of the result is plane ``factor`` * p, both counted from the middle; mirrored beyond the ends."""
    last = len(planes) - 1
    place = (torch.arange(len(planes), device=planes.device) - last / 2) * factor + last / 2
    place = torch.where(place < -0.5, -1 - place, place)
    place = torch.where(place > last + 0.5, 2 * last + 1 - place, place).clamp(0, last)
    if interpolation == "nearest":
        return planes[place.round().long()]
    below = place.floor().long()
    share = (place - below)[:, None, None]
    return torch.lerp(planes[below], planes[(below + 1).clamp(max=last)], share)


def _sampling_matrices(matrices: Tensor, shape: tuple[int, ...]) -> Tensor:
    """(B, n, n + 1) matrices for affine_grid, which wants x first and coordinates scaled to -1..1 by the sides."""
    half = torch.tensor(shape, dtype=torch.float32) / 2
    normalised = matrices * half[None, None, :] / half[None, :, None]
    linear = normalised.flip(1, 2)
    return torch.cat((linear, torch.zeros(len(linear), len(half), 1)), dim=2)


def move_points(label: Tensor, matrices: Tensor) -> Tensor:
    """Move labels of single voxels, each to the voxel nearest to its new place.

    Sampling them would lose or double a voxel wherever the grid is stretched.

    Parameters
    ----------
    label : (B, Z, Y, X) integer, 0 for background
    matrices : (B, 3, 3) invertible, as for :func:`sample_image`

    Returns
    -------
    Of the same shape and type. Every labelled voxel that stays inside comes out once; of two that meet in one voxel
    the higher label stays; those that leave the patch are gone, and mirrored images of them carry no label.
    """
    return torch.stack([_move_points(*pair) for pair in zip(label, torch.linalg.inv(matrices).tolist(), strict=True)])


def _move_points(label: Tensor, forward: list[list[float]]) -> Tensor:
    shape = label.shape
    z, y, x = (
        (torch.arange(side, device=label.device) - (side - 1) / 2).view([-1 if k == axis else 1 for k in range(3)])
        for axis, side in enumerate(shape)
    )
    index = torch.zeros(1, dtype=torch.long, device=label.device)
    inside = torch.ones(1, dtype=torch.bool, device=label.device)
    for side, (to_z, to_y, to_x) in zip(shape, forward, strict=True):
        place = (to_z * z + to_y * y + to_x * x + (side - 1) / 2).round().long()
        inside = inside & (place >= 0) & (place < side)
        index = index * side + place
    # Voxels that leave the patch share one cell behind the last.
    index = torch.where(inside, index, label.numel()).flatten()
    moved = torch.zeros(label.numel() + 1, dtype=torch.int32, device=label.device)
    moved.scatter_reduce_(0, index, label.flatten().int(), "amax")
    return moved[:-1].view(shape).to(label.dtype)
