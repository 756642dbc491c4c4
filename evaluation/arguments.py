"""Command-line flags of the detection that the evaluation scripts share, and the hyperparameters that they make up.

Every hyperparameter is one row of HYPERPARAMETERS: parser, check and defaults are made from it.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import config
from errors import InputError
from particle_config import Particle
from postprocessing import METHODS


@dataclass(frozen=True)
class Hyperparameter:
    """A keyword of one or more detection methods, the flag that fixes it, and its default (by method, or for all).

    ``specific_flags``: method -> a flag that fixes the keyword for this method only, and beats the general one.
    """

    keyword: str
    methods: tuple[str, ...]
    fixed_flag: str
    default: float | Mapping[str, float]
    help: str
    specific_flags: Mapping[str, str] = field(default_factory=dict)

    def default_for(self, method: str) -> float:
        return self.default[method] if isinstance(self.default, Mapping) else self.default


HYPERPARAMETERS = (
    Hyperparameter(
        "peak_threshold",
        ("peak_local_max_gpu",),
        "--fixed_plm_gpu_peak_thresh",
        config.PLM_GPU_PEAK_THRESH,
        "lowest peak of the smoothed probability (default: as found in training)",
    ),
    Hyperparameter(
        "conf_threshold",
        ("cc3d", "watershed", "meanshift"),
        "--fixed_conf_threshold",
        config.CONF_THRESHOLD,
        "probability above which a voxel belongs to the class",
    ),
    Hyperparameter(
        "vol_frac_threshold",
        ("cc3d", "watershed"),
        "--fixed_vol_frac_threshold",
        config.VOL_FRAC_THRESHOLD,
        "smallest component or part, as a share of the target sphere",
    ),
    Hyperparameter(
        "cluster_radius_fraction",
        ("watershed", "meanshift"),
        "--fixed_cluster_radius_fraction",
        {"watershed": config.WS_CLUSTER_RADIUS_FRACTION, "meanshift": config.MS_CLUSTER_RADIUS_FRACTION},
        "smallest distance of two centres in diameters of the target sphere, or bandwidth in its radii",
        {"watershed": "--fixed_ws_cluster_rad_frac"},
    ),
    Hyperparameter(
        "min_cluster_vol_frac",
        ("meanshift",),
        "--fixed_min_cluster_vol_frac",
        config.MIN_CLUSTER_VOL_FRAC,
        "smallest cluster, as a share of the target sphere",
    ),
    Hyperparameter(
        "nms_radius_fraction",
        ("peak_local_max_gpu", "cc3d", "watershed", "meanshift"),
        "--fixed_nms_radius_fraction",
        config.NMS_RADIUS_FRACTION,
        "suppression radius in particle radii",
    ),
)


def add_postprocessing_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("post-processing")
    group.add_argument(
        "--postprocessing_method", choices=METHODS, default=config.POSTPROCESSING_METHOD, help="detection"
    )
    for row in HYPERPARAMETERS:
        group.add_argument(
            row.fixed_flag,
            type=float,
            metavar="V",
            dest=_dest(row.fixed_flag),
            help=f"{row.help} ({', '.join(row.methods)})",
        )
        for method, flag in row.specific_flags.items():
            group.add_argument(
                flag, type=float, metavar="V", dest=_dest(flag), help=f"the same for {method} alone; beats the other"
            )


def resolve_hyperparameters(
    args: argparse.Namespace,
    particles: Sequence[Particle],
    trained: Sequence[Mapping[str, Mapping[str, Mapping[str, float]]]],
) -> dict[str, dict[str, float]]:
    """Particle name -> keyword -> value for the chosen method.

    Precedence: the method's own fixed flag, the general one, then the mean of what the checkpoints found for the
    particle, then config.py.
    A fixed flag that the method does not know is an error.

    Parameters
    ----------
    trained : one mapping method -> particle name -> keyword -> value per checkpoint
    """
    method = args.postprocessing_method
    for row in HYPERPARAMETERS:
        foreign = [flag for other, flag in row.specific_flags.items() if other != method]
        for flag in foreign if method in row.methods else [row.fixed_flag, *foreign]:
            if getattr(args, _dest(flag)) is not None:
                raise InputError(f"{flag} has no effect on --postprocessing_method {method}; leave it out")

    def value(row: Hyperparameter, particle: Particle) -> float:
        for flag in (row.specific_flags.get(method), row.fixed_flag):
            if flag is not None and (fixed := getattr(args, _dest(flag))) is not None:
                return fixed
        found = [one.get(method, {}).get(particle.name, {}).get(row.keyword) for one in trained]
        known = [number for number in found if number is not None]
        return sum(known) / len(known) if known else row.default_for(method)

    rows = [row for row in HYPERPARAMETERS if method in row.methods]
    return {particle.name: {row.keyword: value(row, particle) for row in rows} for particle in particles}


def _dest(flag: str) -> str:
    return flag.removeprefix("--")
