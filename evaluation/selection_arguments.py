"""Command-line flags that choose among picks."""

import argparse

from data.files import path_argument
from data.number_ranges import COUNT, SHARE, NumberRange
from errors import InputError
from evaluation.detector import Detector
from evaluation.detector_arguments import why_no_confidence
from evaluation.selection import INSIDE, OUTSIDE, Selection
from particle_config import find_particle

FLAGS = ("particles", "min_confidence", "max_per_tomogram", "exclude_edge_angstrom", "mask_dir", "mask_keep")


def add_selection_arguments(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--particles", nargs="+", metavar="NAME", help="these alone (default: all of the networks)")
    group.add_argument(
        "--min_confidence", type=SHARE, metavar="P", help="least probability of a pick to be right, 0 to 1"
    )
    group.add_argument("--max_per_tomogram", type=COUNT, metavar="N", help="the N best of each particle")
    group.add_argument(
        "--exclude_edge_angstrom",
        type=NumberRange(0, 1e6),
        default=0.0,
        metavar="A",
        help="none nearer to a face of the tomogram",
    )
    group.add_argument(
        "--mask_dir",
        type=path_argument,
        help="segmentations (MRC, zarr) with their tomograms' names; 0 is outside",
    )
    group.add_argument("--mask_keep", choices=(INSIDE, OUTSIDE), help=f"which side of the masks (default: {INSIDE})")


def check_selection_arguments(args: argparse.Namespace) -> None:
    """InputError for flags without effect."""
    if args.mask_keep is not None and args.mask_dir is None:
        raise InputError("--mask_keep has no effect without --mask_dir; give the masks, too")


def selection_of(args: argparse.Namespace, detector: Detector) -> Selection:
    """InputError for a particle that the networks do not know, or whose picks have no confidence to be chosen by."""
    particles = detector.particles
    if args.particles is not None:
        found = {name: find_particle(name, particles) for name in args.particles}
        if unknown := [name for name, particle in found.items() if particle is None]:
            known = ", ".join(particle.name for particle in particles)
            raise InputError(f"--particles {unknown[0]}: not one of the networks' particles, which are {known}")
        particles = tuple(particle for particle in particles if particle in found.values())
    names = tuple(particle.name for particle in particles)
    without = [name for name in names if not detector.learnt_confidence(name)]
    if args.min_confidence is not None and without:
        raise InputError(
            f"--min_confidence: picks of {', '.join(without)} have no confidence, since none was learnt for them "
            f"({why_no_confidence(args, detector)}); leave it out, or learn it with --hp_search_strategy of "
            "eval_public_czi.py"
        )
    side = args.mask_keep or INSIDE
    return Selection(names, args.min_confidence, args.max_per_tomogram, args.exclude_edge_angstrom, side)
