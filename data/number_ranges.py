"""Ranges of numbers: the types of command-line flags, and what numbers in files may be."""

import argparse
from dataclasses import dataclass
from numbers import Integral, Real

# Of a text in a message.
LONGEST_TEXT = 40


@dataclass(frozen=True)
class NumberRange:
    """The numbers from ``low`` to ``high``, both among them; ``whole`` ones alone where it says so.

    As the ``type`` of a flag it makes the number of a text, or has the parser refuse the text and name the range.
    """

    low: float
    high: float
    whole: bool = False

    def __contains__(self, value: object) -> bool:
        is_number = isinstance(value, Integral if self.whole else Real) and not isinstance(value, bool)
        return is_number and bool(self.low <= value <= self.high)

    def __call__(self, text: str) -> int | float:
        try:
            value = int(text) if self.whole else float(text)
        except ValueError:  # no number, or one of thousands of digits
            value = None
        if value not in self:
            shown = text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]}..."
            raise argparse.ArgumentTypeError(f"must be {self}, got {shown!r}")
        return value

    def __str__(self) -> str:
        low, high = (str(end) if isinstance(end, int) else f"{end:g}" for end in (self.low, self.high))
        return f"a {'whole ' * self.whole}number from {low} to {high}"


def whole(low: int, high: int) -> NumberRange:
    return NumberRange(low, high, whole=True)


COUNT = whole(1, 1_000_000)
INDEX = whole(0, 1_000_000)
SEED = whole(0, 2**31 - 1)
SHARE = NumberRange(0, 1)
PERCENT = NumberRange(0, 100)
# Of features that are left out: with none left nothing could be learnt.
DROPOUT = NumberRange(0, 0.9)
LABEL_SMOOTHING = NumberRange(0, 0.9)
# What machines, folders of results and batches hold at most.
PROCESSES = whole(1, 1024)
BATCH = whole(1, 4096)
SIDE_VOXELS = whole(1, 65_536)
# Of voxels and pixels, in angstrom; how many times one is larger than another.
VOXEL_SIZE = NumberRange(0.1, 1000)
SCALE = NumberRange(0.01, 1000)
# Of a position in angstrom or voxels: beyond it no tomogram reaches, and squares of distances are exact enough.
COORDINATE = NumberRange(-1e9, 1e9)
# Spheres of a hundredth of the particle's radius are single voxels, which have a flag of their own.
SPHERE_SHARE = NumberRange(0.01, 1)
LEARNING_RATE = NumberRange(1e-9, 10)
