"""Command-line flags that the evaluation scripts share, and the hyperparameters that they make up.

Every hyperparameter is one row of HYPERPARAMETERS: parser, check and defaults are made from it.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import config
from errors import InputError
from inference.device import DEVICES
from inference.predictor import PRECISIONS, InferenceSettings
from inference.sliding_window import BLEND_MODES
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


def add_inference_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("inference")
    group.add_argument("--use_tta", action="store_true", help=f"average over the views of {config.TTA_GROUP}")
    group.add_argument("--precision", choices=PRECISIONS, default=config.INFERENCE_PRECISION, help="of the network")
    group.add_argument(
        "--sw_batch_size",
        type=int,
        default=config.VALIDATION_SW_BATCH_SIZE,
        help="views of windows per network call",
    )
    group.add_argument(
        "--blend_mode", choices=BLEND_MODES, default=config.BLEND_MODE, help="weight of a window's voxels"
    )
    group.add_argument(
        "--norm_percentiles",
        type=float,
        nargs=2,
        metavar=("LOWER", "UPPER"),
        help="clip range in percent (default: as in training)",
    )
    group.add_argument(
        "--use_global_norm",
        action="store_true",
        help="clip also for a network trained without; config.py's range where --norm_percentiles names none",
    )
    group.add_argument("--device", choices=DEVICES, default="auto", help="auto: the GPU if there is one")


def add_postprocessing_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("post-processing")
    group.add_argument(
        "--postprocessing_method", choices=METHODS, default=config.POSTPROCESSING_METHOD, help="detection"
    )
    group.add_argument(
        "--postproc_internal_downsample",
        type=int,
        default=1,
        metavar="N",
        help="search in means over cells of N voxels along every axis: faster, less precise; places stay right",
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


def resolve_internal_downsample(args: argparse.Namespace) -> int:
    if args.postproc_internal_downsample < 1:
        raise InputError(f"--postproc_internal_downsample must be 1 or more, got {args.postproc_internal_downsample}")
    return args.postproc_internal_downsample


def inference_settings(args: argparse.Namespace) -> InferenceSettings:
    if args.sw_batch_size <= 0:
        raise InputError(f"--sw_batch_size must be above 0, got {args.sw_batch_size}")
    return InferenceSettings(
        window_zyx=config.INFERENCE_WINDOW,
        overlap=config.SW_OVERLAP,
        blend_mode=args.blend_mode,
        batch_size=args.sw_batch_size,
        tta_group=config.TTA_GROUP if args.use_tta else "none",
        precision=args.precision,
    )


def resolve_norm_percentiles(
    args: argparse.Namespace, trained: tuple[float, float] | None
) -> tuple[float, float] | None:
    """(lower, upper) in percent; None: no clipping.

    Precedence: ``--norm_percentiles`` (which asks for clipping by itself), then what the network was trained with;
    where that is no clipping, ``--use_global_norm`` brings in config.py's.
    """
    if args.norm_percentiles is not None:
        return tuple(args.norm_percentiles)
    if trained is None and args.use_global_norm:
        return config.NORM_LOWER_PERCENTILE, config.NORM_UPPER_PERCENTILE
    return trained


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
