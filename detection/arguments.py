"""The hyperparameters of detection: their flags, defaults and values to choose among, one row each."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import config
from data.number_ranges import SHARE, NumberRange
from postprocessing import METHODS


@dataclass(frozen=True)
class Hyperparameter:
    """A keyword of detection methods, its flags, and its defaults (by method, or for all).

    Attributes
    ----------
    range : of all its values
    fixed_flag, list_flag : give one value, or those to search among
    default : value where nobody gives one
    grid : values to search among where nobody gives any
    specific_fixed_flags, specific_list_flags : method -> the flag for this method only; it beats the general one
    """

    keyword: str
    range: NumberRange
    fixed_flag: str
    list_flag: str
    default: float | Mapping[str, float]
    grid: tuple[float, ...] | Mapping[str, tuple[float, ...]]
    help: str
    specific_fixed_flags: Mapping[str, str] = field(default_factory=dict)
    specific_list_flags: Mapping[str, str] = field(default_factory=dict)

    @property
    def methods(self) -> tuple[str, ...]:
        return tuple(name for name, method in METHODS.items() if self.keyword in method.keywords)

    def default_for(self, method: str) -> float:
        return _of_method(self.default, method)

    def grid_for(self, method: str) -> tuple[float, ...]:
        return _of_method(self.grid, method)

    def foreign_flags(self, method: str) -> list[str]:
        """The flags of this row that have no effect on the method."""
        specific = [*self.specific_fixed_flags.items(), *self.specific_list_flags.items()]
        foreign = [flag for other, flag in specific if other != method]
        return foreign if method in self.methods else [self.fixed_flag, self.list_flag, *foreign]


def _of_method(values, method: str):
    """Of values by method the one for this method, or else the first; a value for all methods as it is."""
    return values.get(method, next(iter(values.values()))) if isinstance(values, Mapping) else values


# Larger ones would find nothing, or one particle in each tomogram; a bandwidth of 0 has no voxels to take the mean of.
IN_RADII, IN_SPHERES, DISTANCES = NumberRange(0, 100), NumberRange(0, 1000), NumberRange(0.01, 100)

HYPERPARAMETERS = (
    Hyperparameter(
        "peak_threshold",
        SHARE,
        "--fixed_plm_gpu_peak_thresh",
        "--plm_gpu_peak_threshs",
        config.PLM_GPU_PEAK_THRESH,
        config.PLM_GPU_PEAK_THRESHS,
        "lowest peak of the smoothed probability (default: as found in training)",
    ),
    Hyperparameter(
        "conf_threshold",
        SHARE,
        "--fixed_conf_threshold",
        "--conf_thresholds",
        config.CONF_THRESHOLD,
        config.CONF_THRESHOLDS,
        "probability above which a voxel belongs to the class",
    ),
    Hyperparameter(
        "vol_frac_threshold",
        IN_SPHERES,
        "--fixed_vol_frac_threshold",
        "--vol_frac_thresholds",
        config.VOL_FRAC_THRESHOLD,
        config.VOL_FRAC_THRESHOLDS,
        "smallest component or part, as a share of the target sphere",
        specific_list_flags={"watershed": "--ws_vol_frac_thresholds"},
    ),
    Hyperparameter(
        "cluster_radius_fraction",
        DISTANCES,
        "--fixed_cluster_radius_fraction",
        "--cluster_radius_fractions",
        {"watershed": config.WS_CLUSTER_RADIUS_FRACTION, "meanshift": config.MS_CLUSTER_RADIUS_FRACTION},
        {"watershed": config.WS_CLUSTER_RADIUS_FRACTIONS, "meanshift": config.MS_CLUSTER_RADIUS_FRACTIONS},
        "smallest distance of two centres in diameters of the target sphere, or bandwidth in its radii",
        {"watershed": "--fixed_ws_cluster_rad_frac"},
        {"watershed": "--ws_cluster_rad_fracs", "meanshift": "--ms_cluster_rad_fracs"},
    ),
    Hyperparameter(
        "min_cluster_vol_frac",
        IN_SPHERES,
        "--fixed_min_cluster_vol_frac",
        "--min_cluster_vol_fracs",
        config.MIN_CLUSTER_VOL_FRAC,
        config.MIN_CLUSTER_VOL_FRACS,
        "smallest cluster, as a share of the target sphere",
        specific_list_flags={"meanshift": "--ms_min_vol_fracs"},
    ),
    Hyperparameter(
        "nms_radius_fraction",
        IN_RADII,
        "--fixed_nms_radius_fraction",
        "--nms_radius_fractions",
        config.NMS_RADIUS_FRACTION,
        config.NMS_RADIUS_FRACTIONS,
        "suppression radius in particle radii",
    ),
)


def hyperparameters_of(method: str) -> list[Hyperparameter]:
    return [row for row in HYPERPARAMETERS if method in row.methods]
