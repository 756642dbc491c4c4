"""Number and mean of the voxels within a radius of any point, from running sums along the rows of the grid."""

import math

import torch
from torch import Tensor

# A voxel at exactly the radius belongs to the ball, whatever the last bit of the distance says.
TOLERANCE = 1e-9
MIN_TILE_VOXELS = 64
# (centre, row) pairs at a time: what stays in a cache, and a small share of a GPU's memory.
CPU_PAIRS, GPU_PAIRS = 2**17, 2**23


class BallMeans:
    """Means over balls of a set of voxels.

    A ball meets each row of the grid in one interval, so that the difference of two running sums stands for all its
    voxels there: a ball of radius r costs about pi r^2 look-ups instead of 4/3 pi r^3 distances, and no lists of
    neighbours. Rows are kept in tiles along x that overlap by the radius, and only where there are voxels.

    All sums are integers and every rounding is that of a single operation: the result is the same to the last bit
    on every device.

    Parameters
    ----------
    voxels_zyx : (N, 3) int64 tensor, distinct, N at least 1
    radius_voxels : above 0; a voxel at exactly this distance counts
    """

    def __init__(self, voxels_zyx: Tensor, radius_voxels: float) -> None:
        self.radius = radius_voxels * (1 + TOLERANCE)
        self.reach = math.ceil(self.radius)
        self.tile = max(2 * self.reach, MIN_TILE_VOXELS)
        # With a margin of one radius no ball about a point between the voxels leaves the box.
        self.origin = voxels_zyx.amin(0) - self.reach
        self.shape = (voxels_zyx.amax(0) - self.origin + self.reach + 1).tolist()
        self.tiles_per_row = self.shape[2] // self.tile + 1
        self.rows_of_points = self._rows(between_voxels=True).to(voxels_zyx.device)
        self.rows_of_voxels = self._rows(between_voxels=False).to(voxels_zyx.device)
        self._store(voxels_zyx - self.origin)

    def _rows(self, between_voxels: bool) -> Tensor:
        """(R, 2) offsets z, y of the rows that a ball can meet, about voxel 0 or any point between voxels 0 and 1."""
        steps = torch.arange(-self.reach, self.reach + 1)
        nearest = torch.where(steps > 0, steps - 1, -steps) if between_voxels else steps
        return (nearest.square()[:, None] + nearest.square() <= self.radius**2).nonzero() - self.reach

    def _store(self, voxels: Tensor) -> None:
        """Running sums of number and x, packed into one integer, of each tile that holds a voxel.

        Tile t holds x from ``t * tile - reach`` to ``(t + 1) * tile + reach - 1``; the first stored one is empty.
        """
        z, y, x = voxels.unbind(1)
        width = self.tile + 2 * self.reach
        self.x_bits = (width * width // 2).bit_length()
        tile = (x - self.reach) // self.tile
        again = ((x + self.reach) // self.tile > tile).nonzero().squeeze(1)  # also in the overlap of the next tile
        keys, grid = self._key(z, y, tile), (*self.shape[:2], self.tiles_per_row)
        keys = torch.cat([keys, keys[again] + 1])
        x_in_tile = x - tile * self.tile + self.reach
        x_in_tile = torch.cat([x_in_tile, x_in_tile[again] - self.tile])
        occupied = torch.zeros(math.prod(grid), dtype=torch.bool, device=x.device)
        occupied[keys] = True
        occupied = occupied.nonzero().squeeze(1)
        self.start_of_key = torch.zeros(math.prod(grid), dtype=torch.int64, device=x.device)
        self.start_of_key[occupied] = torch.arange(1, len(occupied) + 1, device=x.device) * (width + 1)
        dtype = torch.int32 if self.x_bits + (width + 1).bit_length() < 31 else torch.int64
        sums = torch.zeros((len(occupied) + 1) * (width + 1), dtype=dtype, device=x.device)
        sums[_take(self.start_of_key, keys) + x_in_tile + 1] = ((1 << self.x_bits) + x_in_tile).to(dtype)
        self.sums = sums.view(-1, width + 1).cumsum(1, dtype=dtype).flatten()

    def _key(self, z: Tensor, y: Tensor, tile: Tensor) -> Tensor:
        return (z * self.shape[1] + y) * self.tiles_per_row + tile

    def __call__(self, centres_zyx: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and number of the voxels around each centre.

        Parameters
        ----------
        centres_zyx : (M, 3) tensor within the voxels' bounding box, float64 or, sooner done, int64

        Returns
        -------
        (M, 3) float64 means and (M,) int64 numbers; the mean of no voxels is NaN
        """
        whole = not centres_zyx.is_floating_point()
        pairs = CPU_PAIRS if centres_zyx.device.type == "cpu" else GPU_PAIRS
        size = max(1, pairs // len(self.rows_of_points))
        around = self._around_voxels if whole else self._around_points
        parts = [around(part) for part in (centres_zyx - self.origin).split(size)]
        means, numbers = zip(*parts, strict=True)
        return torch.cat(means), torch.cat(numbers)

    def _around_voxels(self, centres: Tensor) -> tuple[Tensor, Tensor]:
        rows = self.rows_of_voxels
        reach_x = (self.radius**2 - rows.double().square().sum(1)).sqrt().long()
        start, x = self._starts(centres, rows)
        first = (start + x).sub_(reach_x)
        return self._means(centres, rows, first, first + (2 * reach_x + 1))

    def _around_points(self, centres: Tensor) -> tuple[Tensor, Tensor]:
        corner, rows = centres.floor().long(), self.rows_of_points
        offset_z, offset_y, fraction_x = (centres - corner).unbind(1)
        rest = self.radius**2 - (offset_z[:, None] - rows[:, 0]).square() - (offset_y[:, None] - rows[:, 1]).square()
        reach_x = rest.clamp(min=0).sqrt()
        start, x = self._starts(corner, rows)
        start = start * (rest >= 0)  # a row beyond the ball: the empty tile
        x = x + fraction_x[:, None]
        return self._means(corner, rows, start + (x - reach_x).ceil().long(), start + (x + reach_x).floor().long() + 1)

    def _starts(self, corner: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """(M, R) positions where the stored rows begin, and (M, 1) the x of the corners counted from there."""
        z, y, x = corner.unbind(1)
        tile = x // self.tile
        keys = self._key(z, y, tile)[:, None] + self._key(rows[:, 0], rows[:, 1], 0)
        return _take(self.start_of_key, keys), (x - tile * self.tile + self.reach)[:, None]

    def _means(self, corner: Tensor, rows: Tensor, first: Tensor, behind: Tensor) -> tuple[Tensor, Tensor]:
        packed = _take(self.sums, behind) - _take(self.sums, first)
        in_row = (packed >> self.x_bits).double()
        number, sum_z, sum_y = (in_row @ torch.cat([torch.ones_like(rows[:, :1]), rows], dim=1).double()).unbind(1)
        sum_x = packed.sum(1) - (number.long() << self.x_bits)
        z, y, x = (corner + self.origin).unbind(1)
        tile_x = x - corner[:, 2] % self.tile - self.reach
        sums = torch.stack([sum_z + number * z, sum_y + number * y, sum_x + number * tile_x], dim=1)
        return sums / number[:, None], number.long()


def _take(values: Tensor, index: Tensor) -> Tensor:
    # On a CPU three times as fast as values[index].
    return values.index_select(0, index.flatten()).view(index.shape)
