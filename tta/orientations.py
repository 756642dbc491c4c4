"""Groups of orientations as data.

An orientation is a signed axis permutation of a (Z, Y, X) array: output axis k shows input axis ``order[k]``,
reversed where ``flips[k]``.
"""

import itertools
from dataclasses import dataclass


@dataclass(frozen=True)
class Orientation:
    """Signed axis permutation: permute to ``order``, then reverse the axes with ``flips``."""

    order: tuple[int, int, int]
    flips: tuple[bool, bool, bool]


IDENTITY = Orientation((0, 1, 2), (False, False, False))


def axis_flips() -> tuple[Orientation, ...]:
    """The 8 axis flips and their products, identity first: the exact symmetries of the missing wedge (D2h)."""
    return tuple(Orientation((0, 1, 2), flips) for flips in itertools.product((False, True), repeat=3))


ORIENTATIONS: dict[str, tuple[Orientation, ...]] = {
    "none": (IDENTITY,),
    "d2h": axis_flips(),
}
