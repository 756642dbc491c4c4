"""Command-line flags of the inference that the evaluation scripts share, and the settings that they make up."""

import argparse
import warnings
from collections.abc import Sequence

import config
from data.number_ranges import BATCH, PERCENT, SIDE_VOXELS, NumberRange
from errors import InputError
from inference.checkpoints import Description
from inference.device import DEVICES
from inference.settings import PRECISIONS, InferenceSettings
from inference.tomograms import MATCHING
from inference.windows import BLEND_MODES
from tta.orientations import DEFAULT_GROUPS, ORIENTATIONS, TILT_AXES, beam_axis, turned
from tta.views import MERGES

NAMED_WINDOWS = ("auto", "train")


def add_inference_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("inference")
    group.add_argument("--use_tta", action="store_true", help="merge the predictions of several views of every window")
    group.add_argument(
        "--tta_group",
        choices=ORIENTATIONS,
        help="which views; by itself asks for --use_tta (default: d2h, oh for networks of isotropic augmentation)",
    )
    group.add_argument(
        "--tta_merge",
        choices=MERGES,
        help=f"mean of the probabilities or of their logarithms, over views and networks (default: {config.TTA_MERGE})",
    )
    group.add_argument(
        "--tilt_axis",
        choices=TILT_AXES,
        help="of the data, for views that turn about the beam: z with y and x, which give the same views; y with z "
        "(default: as in training)",
    )
    group.add_argument(
        "--precision",
        choices=PRECISIONS,
        default=config.INFERENCE_PRECISION,
        help="of the network; fp32 in place of bf16 on CPUs that lack it, fp16 on GPUs",
    )
    group.add_argument(
        "--inference_window",
        type=_window_argument,
        nargs="+",
        metavar="W",
        default=[config.INFERENCE_WINDOW],
        help="auto: the largest that pays within --max_memory_gb; train: as in training; or D H W in voxels",
    )
    group.add_argument(
        "--sw_overlap",
        type=NumberRange(0, 0.9),
        help=f"share of the window's side (default: {config.SW_OVERLAP:g}, at most {config.SW_MAX_OVERLAP} voxels)",
    )
    group.add_argument(
        "--sw_batch_size",
        type=BATCH,
        default=config.VALIDATION_SW_BATCH_SIZE,
        help="views of windows per network call (default: 1 on a CPU, on a GPU as many as keep it busy)",
    )
    group.add_argument(
        "--blend_mode", choices=BLEND_MODES, default=config.BLEND_MODE, help="weight of windows where they overlap"
    )
    group.add_argument(
        "--max_memory_gb",
        type=NumberRange(0.001, 100_000),
        help="that windows may take of the device that computes, besides what is taken before; less where less is free "
        f"(default: {config.CPU_MEMORY_GB:g} on a CPU, {config.GPU_MEMORY_GB:g} on a GPU)",
    )
    group.add_argument("--compile", action="store_true", help="networks as CUDA graphs, made in a minute or two (GPU)")
    group.add_argument(
        "--norm_percentiles",
        type=PERCENT,
        nargs=2,
        metavar=("LOWER", "UPPER"),
        help="clip range in percent (default: as in training)",
    )
    group.add_argument(
        "--use_global_norm",
        action="store_true",
        help="clip also for a network trained without; config.py's range where --norm_percentiles names none",
    )
    group.add_argument(
        "--match_spectrum",
        choices=MATCHING,
        default=config.MATCH_SPECTRUM,
        help="filter tomograms to the mean spectrum of those trained on; auto: those whose spectrum is another",
    )
    group.add_argument("--device", choices=DEVICES, default="auto", help="auto: the GPU if there is one")


def inference_settings(args: argparse.Namespace, descriptions: Sequence[Description]) -> InferenceSettings:
    """The settings for networks of those descriptions; InputError for flags without effect."""
    tta_group = _tta_group(args, descriptions)
    return InferenceSettings(
        window=_window(args.inference_window),
        overlap=config.SW_OVERLAP if args.sw_overlap is None else args.sw_overlap,
        max_overlap_voxels=config.SW_MAX_OVERLAP if args.sw_overlap is None else None,
        trained_window_zyx=tuple(map(max, *(one.patch_size_zyx for one in (*descriptions, descriptions[0])))),
        blend_mode=args.blend_mode,
        batch_size=args.sw_batch_size,
        tta_group=tta_group,
        tta_merge=args.tta_merge or config.TTA_MERGE,
        tilt_axis=_tilt_axis(args, descriptions, tta_group),
        precision=args.precision,
        compile=args.compile,
        max_memory_gb=args.max_memory_gb,
        cpu_memory_gb=config.CPU_MEMORY_GB,
        gpu_memory_gb=config.GPU_MEMORY_GB,
    )


def check_merge(args: argparse.Namespace, *, merges: bool) -> None:
    """InputError where --tta_merge was given and nothing merges views or networks."""
    if args.tta_merge is not None and not merges:
        raise InputError(
            "--tta_merge has no effect where neither views nor networks are merged; give --use_tta too, or leave it out"
        )


def _tta_group(args: argparse.Namespace, descriptions: Sequence[Description]) -> str:
    """The group asked for, else the one that suits the training of all networks."""
    if args.use_tta and args.tta_group == "none":
        raise InputError("--use_tta and --tta_group none contradict each other; leave one of them out")
    if args.tta_group is not None or not args.use_tta:
        return args.tta_group or "none"
    groups = {DEFAULT_GROUPS[one.augmentation_mode] for one in descriptions}
    return min(groups, key=lambda name: len(ORIENTATIONS[name]))


def _tilt_axis(args: argparse.Namespace, descriptions: Sequence[Description], tta_group: str) -> str:
    """As given, else as in the training of the networks, which agree (check_agreement)."""
    given, trained = args.tilt_axis, descriptions[0].tilt_axis
    if given is None:
        return trained
    group = ORIENTATIONS[tta_group]
    if all(turned(group, axis) == group for axis in TILT_AXES):
        raise InputError(f"--tilt_axis has no effect on the views of {tta_group}; leave it out")
    if beam_axis(given) != beam_axis(trained):
        warnings.warn(
            f"--tilt_axis {given}, but the networks were trained with {trained}: views are turned about another beam",
            stacklevel=3,
        )
    return given


def _window_argument(word: str) -> str | int:
    return word if word in NAMED_WINDOWS else SIDE_VOXELS(word)


def _window(given: Sequence[str | int]) -> str | tuple[int, int, int]:
    if len(given) == 1 and given[0] in NAMED_WINDOWS:
        return given[0]
    if len(given) == 3 and not set(given) & set(NAMED_WINDOWS):
        return tuple(given)
    words = " ".join(map(str, given))
    raise InputError(f"--inference_window is auto, train, or three sides D H W in voxels, not {words}")


def resolve_tomo_type(args: argparse.Namespace, descriptions: Sequence[Description]) -> str:
    """The type asked for, else the one that the networks were validated on; InputError where they do not agree."""
    types = sorted({one.tomo_types[0] for one in descriptions})
    if args.tomo_type is None and len(types) > 1:
        raise InputError(f"the networks were validated on {' and '.join(types)}; say which with --tomo_type")
    return args.tomo_type or types[0]


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
