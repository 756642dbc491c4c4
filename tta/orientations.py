"""Orientations of a volume, their algebra, a volume shown in one of them, and the groups of them as data.

An orientation is a signed axis permutation of a (Z, Y, X) array: output axis k shows input axis ``order[k]``,
reversed where ``flips[k]``. There are 48. Every group is generated from the few orientations that define it, in
sorted order, which puts the identity first. They are written for a beam along z and a tilt axis along y.

A tilt series is turned about one axis while the beam stays; the missing wedge lies in the plane across the tilt
axis, around the beam. Beam and tilt axis are two facts of the data, and the name of the tilt axis stands for both:

y : beam along z, the usual layout
x : beam along z, the volume turned by 90 degrees in the plane
z : beam along y, as tilt-series programs write their sections before the volume is turned upright; the file's
    first axis is then the tilt axis
"""

from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, order=True)
class Orientation:
    """Signed axis permutation: permute to ``order``, then reverse the axes with ``flips``."""

    order: tuple[int, int, int]
    flips: tuple[bool, bool, bool]


IDENTITY = Orientation((0, 1, 2), (False, False, False))


def compose(first: Orientation, second: Orientation) -> Orientation:
    """The one orientation that shows what ``first`` and then ``second`` show: apply(apply(volume, first), second)."""
    return Orientation(
        tuple(first.order[axis] for axis in second.order),
        tuple(flip != first.flips[axis] for axis, flip in zip(second.order, second.flips, strict=True)),
    )


def inverse(orientation: Orientation) -> Orientation:
    """The orientation that leads back: composed with the given one, on either side, it is the identity."""
    order = tuple(orientation.order.index(axis) for axis in range(3))
    return Orientation(order, tuple(orientation.flips[axis] for axis in order))


def apply(volume: Tensor, orientation: Orientation) -> Tensor:
    """View of (..., Z, Y, X) in the orientation; leading axes stay."""
    leading = range(volume.ndim - 3)
    permuted = volume.permute(*leading, *(len(leading) + axis for axis in orientation.order))
    return permuted.flip([axis - 3 for axis in range(3) if orientation.flips[axis]])


def generated(*generators: Orientation) -> tuple[Orientation, ...]:
    """The group of everything that the generators compose to, sorted: the identity is first."""
    group, newest = {IDENTITY}, {IDENTITY}
    while newest:
        newest = {compose(one, generator) for one in newest for generator in generators} - group
        group |= newest
    return tuple(sorted(group))


def _flip(*axes: int) -> Orientation:
    return Orientation(IDENTITY.order, tuple(axis in axes for axis in range(3)))


Z, Y, X = range(3)
FLIPS = (_flip(Z), _flip(Y), _flip(X))
QUARTER_TURN = Orientation((Z, X, Y), (False, True, False))  # about z: torch.rot90(volume, dims=(-2, -1))
CYCLE = Orientation((Y, X, Z), (False, False, False))  # a third of a turn about the space diagonal

ORIENTATIONS: dict[str, tuple[Orientation, ...]] = {
    "none": (IDENTITY,),
    # The rotations among the symmetries of the missing wedge: what they show has the hand of the molecule.
    "d2": generated(_flip(Y, X), _flip(Z, X)),
    # All symmetries of the missing wedge.
    "d2h": generated(*FLIPS),
    # Turns about the beam as well, which carry the wedge along.
    "d4h": generated(*FLIPS, QUARTER_TURN),
    # Everything: for data without a direction of its own.
    "oh": generated(*FLIPS, QUARTER_TURN, CYCLE),
    # The seven views of the published method: no group.
    "etfinder7": tuple(sorted({*FLIPS, *generated(QUARTER_TURN)})),
}

# By the checkpoint's augmentation_mode. Anisotropic training shows quarter turns about z too, but only the views of
# d2h leave the wedge of the data in its place.
DEFAULT_GROUPS = {"anisotropic": "d2h", "wedge": "d2h", "isotropic": "oh"}

# Shows data with that tilt axis in the layout with the beam first, then the tilt axis, then the axis across both.
# Exchanges of two axes change the hand of the volume, which no group of orientations depends on.
FRAMES = {
    "y": IDENTITY,
    "x": Orientation((Z, X, Y), (False, False, False)),
    "z": Orientation((Y, Z, X), (False, False, False)),
}
TILT_AXES = tuple(FRAMES)


def beam_axis(tilt_axis: str) -> int:
    """Index of the array axis along the beam: all that views and augmentation depend on, the same for y and x."""
    return FRAMES[tilt_axis].order[0]


def turned(orientations: Iterable[Orientation], tilt_axis: str) -> tuple[Orientation, ...]:
    """The orientations written for tilt axis y and beam z, as data with another tilt axis need them; sorted.

    Of the groups only those that single out the beam and turn about it change (d4h, etfinder7), and only where the
    beam is not along z (tilt axis z): d2, d2h and oh treat the three axes alike, and turns about the beam do not
    depend on the direction of the tilt axis.
    """
    frame = FRAMES[tilt_axis]
    return tuple(sorted(compose(compose(frame, one), inverse(frame)) for one in orientations))
