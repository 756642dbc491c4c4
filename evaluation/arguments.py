"""Command-line flags of data, results, detection and search that the evaluation scripts share, and what they make up.

Flags, checks, defaults and the grid of the search are made from the rows of detection.arguments.HYPERPARAMETERS.
"""

import argparse
import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import config
from data.content_hash import hash_of
from data.files import path_argument
from data.names import name_argument
from data.number_ranges import SHARE, VOXEL_SIZE, NumberRange, whole
from data.spectrum import mean_spectrum
from data.thresholds import Hyperparameters, read_thresholds
from detection.arguments import HYPERPARAMETERS, Hyperparameter, hyperparameters_of
from detection.conditions import Conditions
from detection.grid import STRATEGIES, Grid
from errors import InputError
from evaluation.saved_maps import MAP_FORMATS, MAP_KINDS, PROBABILITY, SavedMaps
from inference.arguments import resolve_norm_percentiles, resolve_tomo_type
from inference.checkpoints import Description
from inference.maps.network_maps import MapSettings
from inference.tomograms import TomogramSettings
from metrics.calibration import KEYWORDS as CALIBRATION
from particle_config import Particle
from postprocessing import METHODS

# Flags that change no pick and no score.
WITHOUT_EFFECT = (
    *("output_dir", "force_rerun", "cache_dir", "cache_limit_gb", "save_maps", "map_kind"),
    *("max_memory_gb", "compile", "sw_batch_size"),
    *("shard", "cluster", "workers", "slurm_options"),
)


def add_data_arguments(group: argparse._ArgumentGroup) -> None:
    """The tomograms to evaluate on."""
    group.add_argument(
        "--data_root",
        type=path_argument,
        default=config.CZI_PUBLIC_EVAL_DATA_ROOT,
        help="to evaluate on, either layout",
    )
    add_reading_arguments(group)


def add_reading_arguments(group: argparse._ArgumentGroup) -> None:
    """How tomograms are read."""
    group.add_argument(
        "--tomo_type", type=name_argument, help="type of tomogram (default: the one validated on in training)"
    )
    group.add_argument("--voxel_spacing", type=VOXEL_SIZE, metavar="A", help="angstrom; overrides the evaluated files'")
    group.add_argument(
        "--rescale",
        action="store_true",
        help="resample tomograms to the voxel size of the training; picks keep their places in angstrom",
    )
    group.add_argument("--training_radius_fraction", type=SHARE, metavar="F", help="default: from the checkpoints")


def add_result_arguments(
    group: argparse._ArgumentGroup,
    default_output_dir: str,
    refused: str = "other flags (also another choice of runs) or networks are refused",
) -> None:
    """Where results and maps are kept; ``refused`` says what does not go together in one folder."""
    group.add_argument(
        "--output_dir",
        type=path_argument,
        help=f"of one command: {refused} (default: {default_output_dir})",
    )
    group.add_argument(
        "--force_rerun",
        action="store_true",
        help="replace the results in the folder, of other flags or networks too; do all again, the networks' maps too",
    )
    group.add_argument(
        "--cache_dir",
        type=path_argument,
        default=config.CACHE_DIR,
        help="of probability maps, in maps/",
    )
    group.add_argument(
        "--cache_limit_gb",
        type=NumberRange(0, 1_000_000),
        default=config.CACHE_LIMIT_GB,
        metavar="GB",
        help="then the oldest maps go",
    )


def add_saved_map_arguments(group: argparse._ArgumentGroup) -> None:
    """The networks' maps as files for other programs."""
    group.add_argument(
        "--save_maps",
        choices=MAP_FORMATS,
        help="write the probability maps to maps/ below --output_dir, to lay over the tomogram: mrc for ChimeraX, IMOD "
        "and Warp, zarr (OME-Zarr 0.4) for napari; a command given again writes the maps alone",
    )
    group.add_argument(
        "--map_kind",
        choices=MAP_KINDS,
        help=f"probability: a map (0 to 1) for each particle; labels: one with the number of the likeliest particle in "
        f"each voxel, 0 for background (default: {PROBABILITY})",
    )


def saved_maps(args: argparse.Namespace, folder: Path) -> SavedMaps:
    """What is saved of the maps below the folder of results; InputError for a flag without effect."""
    if args.map_kind is not None and args.save_maps is None:
        raise InputError("--map_kind has no effect without --save_maps; say mrc or zarr, or leave it out")
    return SavedMaps(folder / "maps", args.save_maps, args.map_kind or PROBABILITY)


def tomogram_settings(args: argparse.Namespace, descriptions: Sequence[Description]) -> TomogramSettings:
    """How tomograms are read for networks of those descriptions, which agree."""
    trained = descriptions[0]
    return TomogramSettings(
        tomo_type=resolve_tomo_type(args, descriptions),
        norm_percentiles=resolve_norm_percentiles(args, trained.norm_percentiles),
        trained_spacing_angstrom=trained.voxel_spacing_angstrom,
        voxel_spacing_angstrom=args.voxel_spacing,
        rescale=args.rescale,
        spectrum=common_spectrum([one.spectrum for one in descriptions]),
        spectrum_range=common_range(descriptions),
        skewness=trained.skewness,
        match_spectrum=args.match_spectrum,
    )


def common_spectrum(spectra: Sequence[tuple[float, ...] | None]) -> tuple[float, ...] | None:
    """Of the tomograms that all networks were trained on; None where one of them does not say."""
    spectra = list(dict.fromkeys(spectra))
    if None in spectra:
        return None
    # Folds have the same one, which rounding must not make another: maps are kept by it.
    return spectra[0] if len(spectra) == 1 else tuple(mean_spectrum(spectra).tolist())


def common_range(descriptions: Sequence[Description]) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Least and greatest amplitudes, likewise."""
    ranges = [one.spectrum_range for one in descriptions]
    return None if None in ranges else tuple(map(common_spectrum, zip(*ranges, strict=True)))


def resolve_radius_fraction(args: argparse.Namespace, descriptions: Sequence[Description]) -> float:
    """Of the target spheres: as given, else as in training."""
    given = args.training_radius_fraction
    return descriptions[0].radius_fraction if given is None else given


def map_settings(args: argparse.Namespace, particles: Sequence[Particle]) -> MapSettings:
    folder = (args.cache_dir / "maps").absolute()
    return MapSettings(folder, args.cache_limit_gb, args.device, args.precision, tuple(particles), args.force_rerun)


def parameters(args: argparse.Namespace, *, absolute: bool, leave_out: Sequence[str] = ()) -> dict:
    """The flags that the results depend on, as plain values; paths as typed or absolute."""
    kept = {name: value for name, value in vars(args).items() if name not in (*WITHOUT_EFFECT, *leave_out)}
    return json.loads(json.dumps(kept, default=lambda path: str(path.resolve() if absolute else path)))


def output_dir(args: argparse.Namespace, *names: str, leave_out: Sequence[str] = ()) -> Path:
    """As given, else a folder that is the same for the same flags, so that a command given again goes on."""
    typed = hash_of(parameters(args, absolute=False, leave_out=leave_out))[:8]
    return args.output_dir or config.OUTPUT_ROOT / "results" / "_".join([*names, typed])


def add_postprocessing_arguments(parser: argparse.ArgumentParser, *, several_methods: bool = False) -> None:
    """With several methods ``postprocessing_method`` is a list, see :func:`for_method`."""
    group = parser.add_argument_group("post-processing")
    default = config.POSTPROCESSING_METHOD
    options = {"nargs": "+", "default": [default]} if several_methods else {"default": default}
    group.add_argument(
        "--postprocessing_method", choices=METHODS, help="detection; a campaign compares several", **options
    )
    group.add_argument(
        "--postproc_internal_downsample",
        type=whole(1, 64),
        default=1,
        metavar="N",
        help="search a map of means over N^3 voxels: faster, less precise",
    )
    group.add_argument(
        "--resolve_overlaps",
        action=argparse.BooleanOptionalAction,
        default=config.RESOLVE_OVERLAPS,
        help="of picks of different particles that overlap, those go that are a tenth as likely as another, or less",
    )
    for row in HYPERPARAMETERS:
        _add_flag(group, row, row.fixed_flag, f"{row.help} ({', '.join(row.methods)})")
        for method, flag in row.specific_fixed_flags.items():
            _add_flag(group, row, flag, f"the same for {method} alone; beats the other")


def add_search_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("hyperparameter search")
    group.add_argument(
        "--hp_search_strategy",
        choices=STRATEGIES,
        help="search the hyperparameters that are not fixed on the tomograms with truth: "
        "a set for each particle, or one for all",
    )
    add_found_hyperparameters_argument(group)
    for row in HYPERPARAMETERS:
        text = f"values to search for {row.keyword} ({', '.join(row.methods)})"
        _add_flag(group, row, row.list_flag, text, nargs="+")
        for method, flag in row.specific_list_flags.items():
            _add_flag(group, row, flag, f"the same for {method} alone; beats the other", nargs="+")


def add_found_hyperparameters_argument(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--per_class_hp_path",
        type=path_argument,
        help="a thresholds.json of a search or of training, to take the hyperparameters from; nothing is searched",
    )


def without_search(args: argparse.Namespace) -> argparse.Namespace:
    """The arguments of a script that searches nothing, as if the flags of the search were there and not given."""
    flags = [flag for row in HYPERPARAMETERS for flag in (row.list_flag, *row.specific_list_flags.values())]
    return argparse.Namespace(**{**dict.fromkeys(map(_dest, flags)), "hp_search_strategy": None, **vars(args)})


def _add_flag(group: argparse._ArgumentGroup, row: Hyperparameter, flag: str, text: str, **options) -> None:
    group.add_argument(flag, type=row.range, metavar="V", dest=_dest(flag), help=text, **options)


def for_method(args: argparse.Namespace, method: str) -> argparse.Namespace:
    """The arguments as if ``method`` were the only one of several: flags that are for the others are not given."""
    others = [other for other in args.postprocessing_method if other != method]
    for_others = {
        _dest(flag): None
        for row in HYPERPARAMETERS
        for flag in row.foreign_flags(method)
        if any(flag not in row.foreign_flags(other) for other in others)
    }
    return argparse.Namespace(**{**vars(args), **for_others, "postprocessing_method": method})


def resolve_hyperparameters(
    args: argparse.Namespace,
    particles: Sequence[Particle],
    trained: Sequence[Hyperparameters],
    conditions: Conditions | None,
) -> dict[str, dict[str, float]]:
    """Particle name -> keyword -> value for the chosen method.

    Precedence: the method's own fixed flag, the general one, then the mean of what the entries of
    ``--per_class_hp_path`` or else the checkpoints say for the particle, then config.py.

    Parameters
    ----------
    trained : what every checkpoint found, see detection.conditions.found_in_training
    conditions : under which the particles are sought; None: calibrations may be those of others

    Returns
    -------
    The hyperparameters of the method, and the calibration of its scores (metrics.calibration) where there is one that
    was learnt under these conditions and with these hyperparameters; the threshold may be another one.

    Raises
    ------
    InputError : a flag that has no effect on the method, or a value or file that cannot be used
    """
    method = args.postprocessing_method
    _check_flags(args)
    if args.per_class_hp_path is not None:
        ranges = {row.keyword: row.range for row in hyperparameters_of(method)}
        trained = read_thresholds(
            args.per_class_hp_path,
            method=method,
            ranges=ranges,
            particles=particles,
            optional=CALIBRATION,
            conditions=conditions,
        )
    tables = [one.get(method, {}) for one in trained]

    def values(particle: Particle) -> dict[str, float]:
        found = [table[particle.name] for table in tables if particle.name in table]
        chosen = {
            row.keyword: next(
                number
                for number in (_fixed(args, row), _mean(found, row.keyword), row.default_for(method))
                if number is not None
            )
            for row in hyperparameters_of(method)
        }
        ranked_alike = [one for one in found if METHODS[method].ranks_alike(one, chosen)]
        calibration = {name: _mean(ranked_alike, name) for name in CALIBRATION}
        return chosen | {name: number for name, number in calibration.items() if number is not None}

    return {particle.name: values(particle) for particle in particles}


def resolve_overlaps(
    args: argparse.Namespace, particles: Sequence[Particle], trained: Sequence[Hyperparameters]
) -> dict[str, dict[str, float]] | None:
    """Particle name -> calibration by which overlapping picks of different particles are compared; None: they are not.

    To tell which of two is far more likely those are good enough that were learnt with other views.

    Parameters
    ----------
    trained : what every checkpoint found, under whatever conditions
    """
    if not args.resolve_overlaps:
        return None
    values = resolve_hyperparameters(args, particles, trained, None)
    return {name: {key: one[key] for key in CALIBRATION if key in one} for name, one in values.items()}


def _mean(found: Sequence[Mapping[str, float]], keyword: str) -> float | None:
    known = [one[keyword] for one in found if keyword in one]
    return sum(known) / len(known) if known else None


def is_untuned(args: argparse.Namespace, trained: Sequence[Hyperparameters]) -> bool:
    """Whether hyperparameters of the chosen method come from config.py, since no training, file or flag names them."""
    method = args.postprocessing_method
    rows = hyperparameters_of(method)
    given = args.per_class_hp_path is not None or all(_fixed(args, row) is not None for row in rows)
    return not given and search_grid(args) is None and not any(one.get(method) for one in trained)


def search_grid(args: argparse.Namespace) -> Grid | None:
    """The values to search among; None: nothing is searched.

    Precedence for each hyperparameter: fixed, the method's own list, the general one, config.py. Where a file or flags
    fix all of them there is nothing to search, with a warning.
    """
    method = args.postprocessing_method
    _check_flags(args)
    if args.hp_search_strategy is None:
        return None
    if args.per_class_hp_path is not None or all(_fixed(args, row) is not None for row in hyperparameters_of(method)):
        warnings.warn("all hyperparameters are given: --hp_search_strategy searches nothing", stacklevel=2)
        return None

    def values(row: Hyperparameter) -> tuple[float, ...]:
        if (fixed := _fixed(args, row)) is not None:
            return (fixed,)
        given = _given(args, row.specific_list_flags.get(method), row.list_flag)
        return tuple(sorted(set(given))) if given is not None else row.grid_for(method)

    return Grid(method, {row.keyword: values(row) for row in hyperparameters_of(method)})


def _check_flags(args: argparse.Namespace) -> None:
    """InputError for a flag that would do nothing."""
    method = args.postprocessing_method
    for row in HYPERPARAMETERS:
        lists = [row.list_flag, *row.specific_list_flags.values()]
        for flag in (row.fixed_flag, *row.specific_fixed_flags.values(), *lists):
            given = _given(args, flag)
            if given is None:
                continue
            if flag in row.foreign_flags(method):
                raise InputError(f"{flag} has no effect on --postprocessing_method {method}; leave it out")
            if flag in lists and args.hp_search_strategy is None:
                raise InputError(f"{flag} has no effect without --hp_search_strategy; say per_class or global")
            if flag in lists and args.per_class_hp_path is not None:
                raise InputError(f"{flag} has no effect beside --per_class_hp_path; leave one of them out")


def _fixed(args: argparse.Namespace, row: Hyperparameter) -> float | None:
    return _given(args, row.specific_fixed_flags.get(args.postprocessing_method), row.fixed_flag)


def _given(args: argparse.Namespace, *flags: str | None):
    """The value of the first flag that was given."""
    values = (getattr(args, _dest(flag)) for flag in flags if flag is not None)
    return next((value for value in values if value is not None), None)


def _dest(flag: str) -> str:
    return flag.removeprefix("--")
