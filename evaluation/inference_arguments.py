"""Command-line flags of the inference that the evaluation scripts share, and the settings that they make up."""

import argparse

import config
from errors import InputError
from inference.device import DEVICES
from inference.predictor import PRECISIONS, InferenceSettings
from inference.sliding_window import BLEND_MODES


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
