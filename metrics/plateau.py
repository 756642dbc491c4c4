"""The best point of a grid of scores: the middle of the plateau, not its edge."""

import numpy as np
from scipy import ndimage


def middle_of_plateau(values: np.ndarray, tolerance: float) -> tuple[int, ...]:
    """The middle of the largest plateau of points that are as good as the best one.

    Parameters
    ----------
    values : array of any number of axes, each in the order of its settings; finite, not empty
    tolerance : what lies at most so far below the maximum is as good as it

    Returns
    -------
    tuple of int
        Index of the plateau's point that is nearest to the plateau's mean index (steps along the axes count alike).
        Of equally near points the one of highest value, of those the first. A plateau is what is connected along the
        axes; of equally large ones it is the one that is highest somewhere.
    """
    labels, count = ndimage.label(values >= values.max() - tolerance)
    highest = ndimage.maximum(values, labels, range(1, count + 1))
    sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    plateau = 1 + max(range(count), key=lambda number: (sizes[number], highest[number]))
    points = np.argwhere(labels == plateau)
    distances = np.square(points - points.mean(axis=0)).sum(axis=1)
    # Rounding must not decide between points on both sides of the middle.
    middle = points[np.lexsort((-values[tuple(points.T)], distances.round(9)))[0]]
    return tuple(int(index) for index in middle)
