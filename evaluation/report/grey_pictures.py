"""Grey slices and overlays as small pictures in data URIs."""

import io
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from errors import InputError, raise_scarcity
from evaluation.report.templates import embedded

# Of the grey values of a sheet, what is black and what is white.
RANGE_PERCENTILES = (0.5, 99.5)
GAP = 2  # blank rows between slices of one picture
OVERLAY_WIDTH, OVERLAY_QUALITY = 1100, 82


def grey_range(slices: Iterable[np.ndarray]) -> tuple[float, float]:
    """The grey values that become black and white; blank voxels (NaN) do not count."""
    values = np.concatenate([one[np.isfinite(one)] for one in slices] or [np.zeros(1)])
    if values.size == 0:
        return 0.0, 1.0
    low, high = np.percentile(values, RANGE_PERCENTILES)
    return float(low), float(high if high > low else low + 1)


def grey_picture(slices: Sequence[np.ndarray], low: float, high: float) -> str:
    """Slices below each other as a PNG in which blank voxels are transparent.

    Parameters
    ----------
    slices : arrays (height, width), rows y or z, columns x; the first row is drawn lowest, as in overlays
    low, high : grey values that become black and white
    """
    gap = np.full((GAP, slices[0].shape[1]), np.nan)
    upright = [part for one in slices for part in (one[::-1], gap)][:-1]
    image = np.concatenate(upright)
    shares = np.clip((image - low) / (high - low), 0, 1)
    # 0 is the transparent grey value.
    grey = np.where(np.isnan(image), 0, np.round(1 + 254 * np.nan_to_num(shares))).astype(np.uint8)
    content = io.BytesIO()
    Image.fromarray(grey).save(content, "PNG", transparency=0, optimize=True)
    return embedded(content.getvalue(), ".png")


def small_overlay(path: Path) -> str:
    """A picture file, not wider than OVERLAY_WIDTH pixels; InputError for one that is damaged."""
    try:
        with Image.open(path) as opened:
            image = opened.convert("RGB")
    except OSError as error:
        raise_scarcity(error)
        raise InputError(f"{path}: not a readable picture; delete it and run again, which draws it again") from error
    image.thumbnail((OVERLAY_WIDTH, 4 * OVERLAY_WIDTH), Image.Resampling.LANCZOS)
    content = io.BytesIO()
    image.save(content, "JPEG", quality=OVERLAY_QUALITY, optimize=True)
    return embedded(content.getvalue(), ".jpg")
