"""The networks of --model_path, and how particles are found with them."""

import argparse
from collections.abc import Sequence

from detection.conditions import Conditions, differences, found_in_training, map_conditions, training_conditions
from detection.proposals import DetectionSettings
from evaluation.arguments import (
    is_untuned,
    resolve_hyperparameters,
    resolve_overlaps,
    resolve_radius_fraction,
    tomogram_settings,
)
from evaluation.detector import Detector
from inference.arguments import inference_settings
from inference.checkpoints import (
    Description,
    check_agreement,
    check_particles,
    find_checkpoints,
    read_description,
    table_in_use,
)
from inference.ensembles import Ensemble, mean_of_maps
from particle_config import GIVEN_PARTICLES, PARTICLES


def read_detector(args: argparse.Namespace) -> Detector:
    """Of --model_path and the flags of reading, inference and detection; InputError for what cannot be used."""
    paths = find_checkpoints(args.model_path)
    descriptions = [read_description(path) for path in paths]
    check_agreement(paths, descriptions)
    particles = table_in_use(descriptions[0].particles, given=GIVEN_PARTICLES, here=PARTICLES)
    for path, description in zip(paths, descriptions, strict=True):
        check_particles(path, description.particles, particles)
    tomograms, inference = tomogram_settings(args, descriptions), inference_settings(args, descriptions)
    radius_fraction, downsample = resolve_radius_fraction(args, descriptions), args.postproc_internal_downsample
    conditions = map_conditions(
        inference,
        tomo_type=tomograms.tomo_type,
        norm_percentiles=tomograms.norm_percentiles,
        trained_radius_fraction=radius_fraction,
        internal_downsample=downsample,
        networks=len(paths),
        match_spectrum=tomograms.matches,
    )
    trained = [found_in_training(one, conditions) for one in descriptions]
    detection = DetectionSettings(
        radius_fraction,
        args.postprocessing_method,
        resolve_hyperparameters(args, particles, trained, conditions),
        downsample,
        resolve_overlaps(args, particles, [found_in_training(one, None) for one in descriptions]),
    )
    ensemble = Ensemble(tuple(paths), mean_of_maps)
    return Detector(ensemble, tuple(descriptions), particles, tomograms, inference, detection, conditions)


def origin_note(args: argparse.Namespace, detector: Detector) -> str | None:
    """Where hyperparameters are untuned, or why picks have no confidence, in a line."""
    if is_untuned(args, [one.hyperparameters for one in detector.descriptions]):
        return (
            f"untuned   no network has hyperparameters of {detector.detection.method}, so that config.py's serve; "
            "--hp_search_strategy of eval_public_czi.py finds better"
        )
    if any(detector.learnt_confidence(particle.name) for particle in detector.particles):
        return None
    return (
        f"picks have no confidence, since none was learnt for them ({why_no_confidence(args, detector)}); "
        "--hp_search_strategy of eval_public_czi.py learns it"
    )


def why_no_confidence(args: argparse.Namespace, detector: Detector) -> str:
    if args.per_class_hp_path is not None:
        return f"see {args.per_class_hp_path}"
    return "; ".join(_differences(detector.descriptions, detector.conditions)) or "other hyperparameters"


def _differences(descriptions: Sequence[Description], conditions: Conditions) -> list[str]:
    differ = dict.fromkeys(differences(training_conditions(one), conditions) for one in descriptions)
    return list(filter(None, differ))
