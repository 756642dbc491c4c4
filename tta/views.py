"""Apply an orientation to a volume and undo it on the answer: undo(apply(x)) == x."""

from torch import Tensor

from tta.orientations import Orientation


def apply(volume: Tensor, orientation: Orientation) -> Tensor:
    """View of (..., Z, Y, X) in the orientation; leading axes stay."""
    permuted = volume.permute(*_leading(volume), *(volume.ndim - 3 + axis for axis in orientation.order))
    return permuted.flip(_flipped_axes(orientation))


def undo(view: Tensor, orientation: Orientation) -> Tensor:
    """The volume (..., Z, Y, X) whose view this is."""
    inverse = [orientation.order.index(axis) for axis in range(3)]
    unflipped = view.flip(_flipped_axes(orientation))
    return unflipped.permute(*_leading(view), *(view.ndim - 3 + axis for axis in inverse))


def _leading(volume: Tensor) -> range:
    return range(volume.ndim - 3)


def _flipped_axes(orientation: Orientation) -> list[int]:
    return [axis - 3 for axis in range(3) if orientation.flips[axis]]
