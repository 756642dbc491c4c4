"""Command-line flags of the formats that picks are written in."""

import argparse
from collections.abc import Mapping, Sequence

from data.files import path_argument
from data.number_ranges import SCALE, VOXEL_SIZE
from errors import InputError
from formats.export import PickedTomogram, TiltSeries, tilt_series_of
from formats.star import read_tilt_series
from formats.writers import WRITERS

# Of the tilt series, which the formats below speak of.
OF_TILT_SERIES = ("tomograms_star", "unbinned_pixel_size", "binning", "tomo_name_template")
SPEAK_OF_IT = ("relion5", "warp", "eman")
FLAGS = ("formats", *OF_TILT_SERIES)


def add_format_arguments(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--formats", nargs="+", choices=WRITERS, default=[], help="to write, each into its own folder")
    group.add_argument("--tomograms_star", type=path_argument, help="of the RELION project, for names and sizes")
    group.add_argument("--unbinned_pixel_size", type=VOXEL_SIZE, metavar="A", help="of the tilt series, angstrom")
    group.add_argument("--binning", type=SCALE, help="tomogram voxel / pixel of the tilt series")
    group.add_argument(
        "--tomo_name_template", help="name of the tilt series, such as 'TS_{name}'; default: that of the tomogram"
    )


def check_format_arguments(args: argparse.Namespace) -> None:
    """InputError for flags without effect."""
    given = [name for name in OF_TILT_SERIES if getattr(args, name) is not None]
    if given and not set(args.formats) & set(SPEAK_OF_IT):
        raise InputError(f"--{given[0]} has no effect without one of --formats {', '.join(SPEAK_OF_IT)}")


def tilt_series(args: argparse.Namespace, tomograms: Sequence[PickedTomogram]) -> Mapping[str, TiltSeries]:
    """Those of the tomograms, none where no format speaks of them; InputError for names or sizes that do not fit."""
    if not set(args.formats) & set(SPEAK_OF_IT):
        return {}
    known = None if args.tomograms_star is None else read_tilt_series(args.tomograms_star)
    return tilt_series_of(
        tomograms,
        known=known,
        unbinned_pixel_size_angstrom=args.unbinned_pixel_size,
        binning=args.binning,
        name_template=args.tomo_name_template,
    )
