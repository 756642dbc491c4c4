"""Breaks the code on purpose, one place at a time, and shows whether a test sees it.

    python -m tests.mutants
    python -m tests.mutants --only "patch centre half a voxel off"

Each break runs in a copy of the program with the tests that must catch it. Exit code 1 where fewer than 95 of 100 are
caught, where the text to break does not stand once in its file, or where the tests cannot be run. They must pass first.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

ROOT = Path(__file__).parents[1]
LEAST_SHARE = 0.95
SECONDS = 300


@dataclass(frozen=True)
class Mutant:
    """A break: in ``file`` the one place that reads ``old`` becomes ``new``; ``tests`` are file names below tests/."""

    name: str
    file: str
    old: str
    new: str
    tests: str


TRAINING, EVALUATION = "test_training_joints.py", "test_evaluation_joints.py"
CHECKPOINT = "test_files_to_checkpoint.py"
LOSS, FOLDER = "test_training.py", "test_experiment_folder.py"

MUTANTS = (
    # --- Training data ---
    Mutant(
        "patch centre half a voxel off",
        "data/patches.py",
        "centre + jitter - (self.patch_size - 1) / 2",
        "centre + jitter - self.patch_size / 2",
        TRAINING,
    ),
    Mutant(
        "patch sides reversed",
        "data/patches.py",
        "np.array(patch_size_zyx)",
        "np.array(patch_size_zyx[::-1])",
        TRAINING,
    ),
    Mutant(
        "particle centres in angstrom",
        "data/training_volume.py",
        "picks[p.name] / spacing",
        "picks[p.name]",
        "test_training_volume.py",
    ),
    Mutant(
        "particle centres in x, y, z",
        "data/training_volume.py",
        "picks[p.name] / spacing",
        "picks[p.name][:, ::-1] / spacing",
        "test_training_volume.py",
    ),
    Mutant(
        "every process cuts the batches of the first",
        "training/fold_data.py",
        "rank=self.trainer.global_rank",
        "rank=0",
        TRAINING,
    ),
    Mutant(
        "one share a batch in mixup",
        "data/augmentation.py",
        "torch.where(drawn, torch.rand(count, generator=generator)",
        "torch.where(drawn, torch.rand(1, generator=generator)",
        TRAINING,
    ),
    Mutant(
        "mixup keeps the larger share",
        "data/augmentation.py",
        "torch.where(drawn, torch.rand(count, generator=generator)",
        "torch.where(drawn, 0.5 + 0.5 * torch.rand(count, generator=generator)",
        TRAINING,
    ),
    Mutant(
        "a matrix is that of the inverse orientation",
        "data/spatial_transforms.py",
        "matrix[source, axis] =",
        "matrix[axis, source] =",
        "test_spatial_transforms.py",
    ),
    Mutant(
        "augmentation turns about z whatever the tilt axis",
        "data/spatial_transforms.py",
        "turned(ORIENTATIONS[MODES[mode]], tilt_axis)",
        "ORIENTATIONS[MODES[mode]]",
        "test_spatial_transforms.py",
    ),
    Mutant(
        "points outside counted in angstrom",
        "prepare_mask_czi.py",
        "unpainted(tomogram.shape_zyx, picks[p.name] / spacing, radii[p.label])",
        "unpainted(tomogram.shape_zyx, picks[p.name], radii[p.label])",
        TRAINING,
    ),
    Mutant(
        "masks of the nominal radius in angstrom",
        "data/masks.py",
        "p.radius_angstrom / voxel_spacing_angstrom * radius_fraction",
        "p.radius_angstrom * radius_fraction",
        "test_masks.py",
    ),
    Mutant(
        "cache of one voxel size serves all",
        "data/tomogram_cache.py",
        "norm_percentiles, *resampled])",
        "norm_percentiles])",
        "test_tomogram_cache.py",
    ),
    Mutant(
        "resampling shifts by half a voxel",
        "data/resampling.py",
        "centres = np.array(indices) * ratio",
        "centres = (np.array(indices) + 0.5) * ratio - 0.5",
        "test_resampling.py",
    ),
    Mutant(
        "resampling to a coarser grid does not average",
        "data/resampling.py",
        "centres[:, None]) / max(ratio, 1.0))",
        "centres[:, None]))",
        "test_resampling.py",
    ),
    Mutant(
        "resampled maps serve for tomograms of another voxel size",
        "inference/maps/network_maps.py",
        "**({} if resampled is None else",
        "**({} if True else",
        "test_network_maps.py",
    ),
    Mutant(
        "bytes of IMOD are signed",
        "data/tomogram.py",
        "    return unsigned\n",
        "    return False\n",
        "test_tomogram.py",
    ),
    Mutant(
        "the shift of a pick is that of other axes",
        "data/picks.py",
        "return z + float(shift_xyz[2]), y + float(shift_xyz[1]), x + float(shift_xyz[0])",
        "return z + float(shift_xyz[0]), y + float(shift_xyz[1]), x + float(shift_xyz[2])",
        "test_picks.py",
    ),
    Mutant("Dynamo counts from 0", "formats/dynamo.py", "FIRST_PIXEL = 1.0", "FIRST_PIXEL = 0.0", "test_formats.py"),
    Mutant(
        "IMOD's z is shifted as x and y are",
        "formats/imod.py",
        "VOXEL_OFFSET_XYZ = np.array([0.5, 0.5, 0.0])",
        "VOXEL_OFFSET_XYZ = np.array([0.5, 0.5, 0.5])",
        "test_formats.py",
    ),
    Mutant(
        "EMAN2 counts from a true half",
        "formats/point_groups.py",
        "size_xyz // 2 *",
        "size_xyz / 2 *",
        "test_formats.py",
    ),
    Mutant(
        "the portal's metadata says no voxel size",
        "data/tomogram.py",
        "metadata_angstrom=spacing_of_metadata(path) if level == 0 else None,",
        "metadata_angstrom=None,",
        "test_portal_metadata.py",
    ),
    Mutant(
        "RELION's volume may be any",
        "formats/point_groups.py",
        "VOLUME_TOLERANCE = 0.05",
        "VOLUME_TOLERANCE = 1e9",
        "test_import_contradictions.py",
    ),
    Mutant(
        "optics and tomograms.star may contradict each other",
        "formats/star.py",
        "SAME_PIXEL = 0.02",
        "SAME_PIXEL = 1e9",
        "test_import_contradictions.py",
    ),
    Mutant(
        "a third of the picks on particles is enough",
        "formats/density.py",
        "MOST, HALF = 0.75, 0.5",
        "MOST, HALF = 0.0, 0.0",
        "test_density.py",
    ),
    Mutant(
        "a header beside RELION's tomogram may say another voxel size",
        "formats/dataset.py",
        "        if not spacing_is_given:\n",
        "        if False:\n",
        "test_import_contradictions.py",
    ),
    Mutant(
        "napari's first axes are z, y, x",
        "formats/table.py",
        "return tuple(axes[:-4:-1])",
        "return tuple(axes[2::-1])",
        "test_table.py",
    ),
    Mutant(
        "file and folder may contradict each other",
        "data/voxel_spacing.py",
        "> CONTRADICTION for",
        "> 1e9 for",
        "test_voxel_spacing.py",
    ),
    Mutant(
        "the shell of an allocation is a job",
        "training/slurm.py",
        "in SHELLS:",
        "in ():",
        "test_slurm.py",
    ),
    Mutant(
        "cache of one set of percentiles serves all",
        "data/tomogram_cache.py",
        "hash_of([str(tomogram.path.resolve()), norm_percentiles, *resampled])",
        "hash_of([str(tomogram.path.resolve()), *resampled])",
        "test_tomogram_cache.py",
    ),
    Mutant(
        "outdated masks taken as they are",
        "data/training_volume.py",
        "if (other is None and damaged is False) or np.array_equal(mask, make_mask(**made_from)):",
        "if True:",
        "test_training_volume.py",
    ),
    Mutant(
        "given masks of other picks painted anew",
        "data/training_volume.py",
        "            if self.masks_given:\n                raise\n",
        "",
        "test_training_volume.py",
    ),
    # --- Training ---
    Mutant("a diverged loss in the end forgiven", "training/callbacks.py", "DIVERGED = 5.0", "DIVERGED = 5e9", LOSS),
    Mutant(
        "weights that are no numbers saved",
        "training/callbacks.py",
        "bool(torch.isfinite(weight).all())",
        "True",
        LOSS,
    ),
    Mutant(
        "single voxels trained by the loss of spheres",
        "training/arguments.py",
        "config.SINGLE_VOXEL_LOSS_TYPE if args.single_pixel_mask else config.LOSS_TYPE",
        "config.LOSS_TYPE",
        "test_train_flags.py",
    ),
    Mutant(
        "constants of config.py not compared",
        "training/arguments.py",
        "for name, value in saved.items() if name not in flags",
        "for name, value in saved.items() if name == 'runs'",
        FOLDER,
    ),
    Mutant(
        "an experiment goes on with other runs", "training/experiment.py", "if before is not None:", "if False:", FOLDER
    ),
    Mutant(
        "a fold trained twice at a time", "training/experiment.py", 'fold) / ".lock"', 'fold) / f".{id(stack)}"', FOLDER
    ),
    Mutant(
        "a held-out run without scored points validated on", "train.py", "p.score_weight > 0 and len(", "len(", FOLDER
    ),
    Mutant(
        "a campaign tuned on any training data",
        "run_experiment_evaluation.py",
        "experiment.check_training_data(root, particles)",
        "pass",
        "test_experiments.py",
    ),
    Mutant(
        "Tversky of every patch by itself", "losses/tversky.py", "over = (0, 2, 3, 4)", "over = (2, 3, 4)", TRAINING
    ),
    Mutant(
        "validation truth in x, y, z",
        "data/training_volume.py",
        "self.centres_zyx_voxels.get(p.label, none) * self.voxel_spacing_angstrom",
        "self.centres_zyx_voxels.get(p.label, none)[:, ::-1] * self.voxel_spacing_angstrom",
        TRAINING,
    ),
    Mutant(
        "gradient norms of this process alone",
        "training/module.py",
        'self.trainer.strategy.reduce(norms, reduce_op="mean")',
        "norms",
        TRAINING,
    ),
    Mutant("no dropout", "training/run.py", ", dropout=settings.dropout)", ")", TRAINING),
    Mutant(
        "validation windows exchanged",
        "training/arguments.py",
        'if args.norm_type == "batch" else',
        'if args.norm_type != "batch" else',
        TRAINING,
    ),
    Mutant(
        "the best checkpoint by one epoch's score",
        "training/checkpoint_files.py",
        'monitor=f"{SMOOTHED}{metric}"',
        "monitor=metric",
        "test_training.py",
    ),
    Mutant(
        "of equal checkpoints the earlier kept",
        "training/checkpoint_files.py",
        " or current == self.best_model_score",
        "",
        TRAINING,
    ),
    Mutant(
        "augmentation of every step alike",
        "training/module.py",
        'batch_seeds(self.settings.seed, batch["index"])',
        "batch_seeds(self.settings.seed, 0)",
        "test_training.py",
    ),
    Mutant(
        "a resumed GradNorm begins anew",
        "losses/gradnorm.py",
        'self._optimizer.load_state_dict(state["optimizer"])',
        "pass",
        "test_gradnorm.py",
    ),
    Mutant(
        "default patches larger than the tomogram",
        "training/default_sizes.py",
        "sides = [min(int(side * share), most)",
        "sides = [max(int(side * share), 0 * most)",
        "test_default_sizes.py",
    ),
    Mutant(
        "minutes of all folds for each",
        "train.py",
        "60 * args.minutes / len(folds),",
        "60 * args.minutes,",
        "test_duration.py",
    ),
    # --- Files to checkpoints ---
    Mutant(
        "patch jitter of every axis by the first side",
        "data/patches.py",
        "CENTRE_JITTER_FRACTION, 3) * self.patch_size",
        "CENTRE_JITTER_FRACTION, 3) * self.patch_size[0]",
        CHECKPOINT,
    ),
    Mutant(
        "label left behind when the image is turned",
        "training/module.py",
        "target = pool_labels(label, self.network.output_stride, single_voxels=single_voxels)",
        'target = pool_labels(batch["label"], self.network.output_stride, single_voxels=single_voxels)',
        CHECKPOINT,
    ),
    Mutant(
        "z-score after the shift of statistics",
        "training/module.py",
        "shift_statistics(standardize(image), level=self.settings.augmentation_level, generator=generator)",
        "standardize(shift_statistics(image, level=self.settings.augmentation_level, generator=generator))",
        CHECKPOINT,
    ),
    Mutant(
        "class weights with the background last",
        "training/arguments.py",
        "return (1.0, *(particle.loss_weight for particle in PARTICLES))",
        "return (*(particle.loss_weight for particle in PARTICLES), 1.0)",
        CHECKPOINT,
    ),
    Mutant(
        "network trained in evaluation mode",
        "training/module.py",
        'self.loss(self.network(batch["image"])',
        'self.loss(self.network.eval()(batch["image"])',
        CHECKPOINT,
    ),
    Mutant(
        "terms of GradNorm in another order than its losses",
        "training/run.py",
        "GradNorm(list(weights), weights,",
        "GradNorm(list(weights)[::-1], weights,",
        CHECKPOINT,
    ),
    Mutant(
        "validation takes a coarse map for a fine one",
        "detection/proposals.py",
        "map_stride=prediction.stride",
        "map_stride=1",
        CHECKPOINT,
    ),
    Mutant(
        "validation reports the best F4 of the grid, not that of its hyperparameters",
        "training/validation.py",
        "else _pooled_f4(picks, p) for p",
        "else float(results[0].pooled_f4(p.name).max()) for p",
        "test_validation.py",
    ),
    Mutant(
        "validation window reversed",
        "training/arguments.py",
        "window=config.VALIDATION_WINDOW if",
        "window=config.VALIDATION_WINDOW[::-1] if",
        CHECKPOINT,
    ),
    Mutant(
        "checkpoint with other norm percentiles than its training",
        "training/run.py",
        "norm_percentiles=source.norm_percentiles,\n        radius",
        "norm_percentiles=(0.5, 99.5),\n        radius",
        CHECKPOINT,
    ),
    Mutant(
        "the host waits for the loss at every step",
        "training/callbacks.py",
        'self.loss = outputs["loss"].detach()',
        'self.loss = torch.tensor(float(outputs["loss"]))',
        TRAINING,
    ),
    # --- Phantom ---
    Mutant(
        "dose from one end of the tilt range to the other",
        "data/phantom/tilt_series.py",
        'np.argsort(np.argsort(np.abs(geometry.angles_degrees), kind="stable"), kind="stable")',
        "np.arange(len(geometry.angles_degrees))",
        TRAINING,
    ),
    Mutant(
        "noise of a tilt whatever their number",
        "data/phantom/dataset.py",
        "math.sqrt(tilts / REFERENCE_TILTS)",
        "1.0",
        TRAINING,
    ),
    # --- Inference ---
    Mutant(
        "map key without the normalisation",
        "inference/maps/network_maps.py",
        '"norm_percentiles": source.settings.norm_percentiles,',
        "",
        "test_network_maps.py",
    ),
    Mutant(
        "map key without the device",
        "inference/maps/network_maps.py",
        '                "device": self.device.type,\n',
        "",
        "test_network_maps.py",
    ),
    Mutant(
        "map key without the window in use",
        "inference/maps/network_maps.py",
        '"window": self.window(checkpoint, inference, source.tomogram.shape_zyx),',
        "",
        "test_network_maps.py",
    ),
    Mutant(
        "window in use without the shape",
        "inference/maps/network_maps.py",
        "self._architectures[checkpoint], inference, tuple(shape_zyx)",
        "self._architectures[checkpoint], inference",
        "test_network_maps.py",
    ),
    Mutant(
        "maps of the networks before memory ran out stay in the mean",
        "inference/maps/network_maps.py",
        "            if self.keys(ensemble, source, inference) == keys:\n                return prediction",
        "            return prediction",
        "test_network_maps.py",
    ),
    Mutant(
        "a part that reaches into another tile is two",
        "postprocessing/watershed.py",
        "numbers.setdefault(places[part], count + len(numbers) if numbers else number)",
        "numbers.setdefault((places[part], core[0].start), count + len(numbers) if numbers else number)",
        "test_postprocessing.py",
    ),
    Mutant(
        "windows that do not fit are taken",
        "inference/predictor.py",
        "        if self.predicted_bytes(plan) <= free:\n            return\n",
        "        return\n",
        "test_predictor.py",
    ),
    Mutant(
        "memory of a blended map without its variance",
        "inference/memory.py",
        "maps += math.prod(grid.map_shape_zyx) * FLOAT * cost.num_classes * (1 + with_variance)",
        "maps += math.prod(grid.map_shape_zyx) * FLOAT * cost.num_classes",
        EVALUATION,
    ),
    Mutant(
        "a batch norm left unfolded without a word",
        "models/folding.py",
        "    if left:\n",
        "    if False:\n",
        "test_folding.py",
    ),
    Mutant(
        "a view that is sure of nothing is without limit",
        "tta/views.py",
        "part.clamp_(min=math.log(SMALLEST_PROBABILITY))",
        "part",
        "test_ensembles.py",
    ),
    Mutant(
        "result key without how networks are merged",
        "evaluation/finished.py",
        '"merge": inference.tta_merge if one.ensemble.merges else None,',
        "",
        EVALUATION,
    ),
    Mutant(
        "variance between networks left out",
        "tta/moments.py",
        "self._squares.addcmul_(difference, difference, value=1 - 1 / self.count)",
        "pass",
        "test_ensembles.py",
    ),
    # --- Detection and search ---
    Mutant(
        "lowest score of the first particle for all",
        "detection/proposals.py",
        "floor = min(LOWEST_SCORE, *thresholds, grid",
        "floor = min(LOWEST_SCORE, *thresholds[:1], grid",
        "test_detection.py test_search.py",
    ),
    Mutant(
        "uncertainty half a voxel of the map off",
        "detection/proposals.py",
        "np.rint((coordinates_zyx + 0.5) / prediction.stride - 0.5)",
        "np.rint(coordinates_zyx / prediction.stride)",
        "test_detection.py",
    ),
    Mutant(
        "calibrations of other maps are taken",
        "detection/conditions.py",
        "if conditions is None or training_conditions(description) == conditions:",
        "if True:",
        "test_conditions.py",
    ),
    Mutant(
        "calibrations of other hyperparameters are taken",
        "evaluation/arguments.py",
        "if METHODS[method].ranks_alike(one, chosen)",
        "if chosen",
        "test_arguments.py",
    ),
    Mutant(
        "calibration from the first point of the grid",
        "detection/search_result.py",
        "one.curve_at(point) for one in evidence[name]",
        "one.curve_at((0,) * len(point)) for one in evidence[name]",
        EVALUATION,
    ),
    Mutant(
        "a second threshold is not searched",
        "detection/grid.py",
        "further = [self.further_size_keyword] if self.further_size_keyword else []",
        "further = []",
        "test_search.py",
    ),
    Mutant(
        "networks that were trained on a tomogram search on it",
        "evaluation/training_use.py",
        "return run_name in network.training_runs",
        "return False",
        "test_out_of_fold.py",
    ),
    Mutant(
        "overlapping picks: the confident one goes",
        "postprocessing/overlaps.py",
        'kept[first][pairs["i"][theirs >= CONFIDENCE_RATIO * ours]] = False',
        'kept[first][pairs["i"][ours >= CONFIDENCE_RATIO * theirs]] = False',
        "test_overlaps.py",
    ),
    Mutant(
        "overlaps judged in voxels",
        "detection/proposals.py",
        "[one.detections.coordinates_zyx * proposals.voxel_spacing_angstrom for one in found],",
        "[one.detections.coordinates_zyx for one in found],",
        "test_overlaps.py",
    ),
    Mutant(
        "expected F4 without what is missed",
        "metrics/calibration.py",
        "return f_beta(hits, kept - hits, curve.references - hits, beta)",
        "return f_beta(hits, kept - hits, likely_hits.sum() - hits, beta)",
        "test_calibration.py",
    ),
    Mutant(
        "thresholds from the expected F4 alone",
        "detection/search_result.py",
        "(mean_smoothed_f_beta(runs, thresholds) + expected_f_beta(runs, thresholds)) / 2",
        "expected_f_beta(runs, thresholds)",
        "test_search.py test_validation.py",
    ),
    Mutant(
        "thresholds all the way to what is worth taking",
        "detection/search_result.py",
        "(thresholds[point[-1]] + np.clip(logit(score), thresholds.min(), thresholds.max())) / 2",
        "np.clip(logit(score), thresholds.min(), thresholds.max())",
        "test_search.py",
    ),
    Mutant(
        "worth taking without the calibration's slope",
        "metrics/calibration.py",
        "(logit(WORTHWHILE) - found[OFFSET]) / found[SLOPE]",
        "(logit(WORTHWHILE) - found[OFFSET])",
        "test_calibration.py",
    ),
    # --- Results ---
    Mutant(
        "result key without the voxel spacing",
        "evaluation/finished.py",
        '"voxel_spacing_angstrom": one.source.voxel_spacing_angstrom,',
        "",
        EVALUATION,
    ),
    Mutant(
        "result key without the truth",
        "evaluation/finished.py",
        ', "truth": one.truth_key}',
        "}",
        EVALUATION,
    ),
    Mutant(
        "search finished for another truth",
        "evaluation/tuning/search.py",
        "return result_key(tomograms, searches[folder]",
        "return result_key([replace(one, truth=None) for one in tomograms], searches[folder]",
        "test_campaign.py",
    ),
    Mutant(
        "result key without the particles' radii",
        "evaluation/finished.py",
        "(p.name, p.radius_angstrom, p.label, *",
        "(p.name, p.label, *",
        EVALUATION,
    ),
    Mutant(
        "a campaign takes networks of another particle table",
        "evaluation/campaign/experiments.py",
        "        check_particles(path, description.particles, particles)\n",
        "        pass\n",
        "test_experiments.py",
    ),
    Mutant(
        "thresholds of other radii are taken",
        "data/thresholds.py",
        "if radii[particle.name] != particle.radius_angstrom:",
        "if False:",
        "test_thresholds.py",
    ),
    Mutant(
        "results of other networks go on",
        "evaluation/ownership.py",
        "if networks.get(name) != command.networks.get(name):",
        "if False:",
        "test_ownership.py",
    ),
    Mutant(
        "a configuration that lacks a tomogram is ranked",
        "evaluation/campaign/campaign.py",
        "if one not in lacking}",
        "if True}",
        "test_campaign.py",
    ),
    Mutant(
        "training data read with the evaluated spacing",
        "run_experiment_evaluation.py",
        'voxel_spacing_angstrom=experiment.arguments.get("voxel_spacing"),',
        "",
        EVALUATION,
    ),
    Mutant(
        "a finished tomogram is not marked",
        "evaluation/finished.py",
        "        mark_finished(temporary, key, files, **notes)\n",
        "",
        "test_campaign_folder.py",
    ),
    # --- Statistics ---
    Mutant(
        "interval of normal errors, too narrow for few tomograms",
        "metrics/statistics.py",
        "student_t.ppf((1 + confidence) / 2, runs - 1)",
        "student_t.ppf((1 + confidence) / 2, 1e9)",
        "test_statistics.py",
    ),
    Mutant(
        "interval of two tomograms",
        "metrics/statistics.py",
        "MIN_RUNS = 6",
        "MIN_RUNS = 2",
        "test_statistics.py",
    ),
    # --- Pictures and report ---
    Mutant(
        "every pick near a reference drawn as a hit",
        "evaluation/overlays.py",
        "HIT if index in best else FALSE",
        "HIT if any(np.linalg.norm(true - point, axis=1) <= radius) else FALSE",
        "test_overlays.py",
    ),
    Mutant(
        "slices of the gallery upside down",
        "evaluation/report/grey_pictures.py",
        "(one[::-1], gap)",
        "(one, gap)",
        "test_gallery.py",
    ),
    Mutant(
        "gallery begins with the worst picks",
        "evaluation/report/particle_sheets.py",
        'ascending=False, kind="stable"',
        'ascending=True, kind="stable"',
        "test_gallery.py",
    ),
    Mutant(
        "gallery keeps a tomogram while it reads the next",
        "evaluation/report/particle_sheets.py",
        "            del voxels",
        "            pass",
        "test_gallery.py",
    ),
    Mutant(
        "particles cut by the border count in the mean",
        "evaluation/report/particle_sheets.py",
        "if not self.box.holds_particle(cube):",
        "if np.isnan(cube).all():",
        "test_gallery.py",
    ),
    Mutant(
        "cut-outs half a voxel off",
        "evaluation/report/cutouts.py",
        "places = (centre + box.offsets_angstrom) / spacing",
        "places = (centre + box.offsets_angstrom) / spacing - 0.5",
        "test_cutouts.py",
    ),
    Mutant(
        "cut-outs with one voxel size for all axes",
        "evaluation/report/cutouts.py",
        "zip(centre_zyx_angstrom, spacing_zyx, voxels.shape, strict=True)",
        "zip(centre_zyx_angstrom, (spacing_zyx[2],) * 3, voxels.shape, strict=True)",
        "test_cutouts.py",
    ),
    Mutant(
        "every pick near a reference a hit in the gallery",
        "evaluation/truth.py",
        "np.isin(np.arange(len(rows)), best)",
        "np.full(len(rows), bool((best >= 0).any()))",
        "test_truth.py",
    ),
    Mutant(
        "z errors called larger whatever they are",
        "evaluation/report/page.py",
        '"larger along z" if z > xy else "smaller along z"',
        '"larger along z"',
        "test_report.py",
    ),
    Mutant(
        "circles with x and y exchanged",
        "evaluation/overlays.py",
        "rows[[across, up]].to_numpy()",
        "rows[[up, across]].to_numpy()",
        EVALUATION,
    ),
    Mutant(
        "picture without the half voxel",
        "evaluation/overlays.py",
        "        -0.5 * spacing / 10,\n        (width - 0.5) * spacing / 10,",
        "        0.0,\n        width * spacing / 10,",
        EVALUATION,
    ),
    Mutant(
        "errors along z and in the plane exchanged",
        "evaluation/report/figures.py",
        '("rms_z", "rms_xy"), ("along z"',
        '("rms_xy", "rms_z"), ("along z"',
        EVALUATION,
    ),
    Mutant(
        "cost of views inverted",
        "evaluation/report/page.py",
        "_seconds(one) / _seconds(other) if",
        "_seconds(other) / _seconds(one) if",
        EVALUATION,
    ),
    Mutant(
        "position errors of the first detector alone",
        "evaluation/campaign/comparison.py",
        "offsets = list(self.offsets.values())",
        "offsets = list(self.offsets.values())[:1]",
        EVALUATION,
    ),
    Mutant(
        "seconds of all tomograms",
        "evaluation/report/campaign_report.py",
        "float(self._detection[str(configuration)]) / pieces",
        "float(self._detection[str(configuration)])",
        EVALUATION,
    ),
    Mutant(
        "threshold of one fold in the report",
        "evaluation/report/campaign_report.py",
        "for name in names]\n    curves = {}",
        "for name in names[:1]]\n    curves = {}",
        EVALUATION,
    ),
    Mutant(
        "curves of one fold in the report",
        "evaluation/report/campaign_report.py",
        "for name in names for run in campaign.truths]",
        "for name in names[:1] for run in campaign.truths]",
        EVALUATION,
    ),
    Mutant(
        "picture of the best tomogram alone",
        "evaluation/report/campaign_report.py",
        "dict.fromkeys([ordered.index[0], ordered.index[-1]])",
        "dict.fromkeys([ordered.index[0]])",
        EVALUATION,
    ),
    # --- Picks for other programs ---
    Mutant(
        "RELION 5 picks from a whole middle voxel",
        "formats/star.py",
        "_volume_xyz_angstrom(tomogram, series) / 2",
        "_volume_xyz_angstrom(tomogram, series) // 2",
        "test_writers.py",
    ),
    Mutant(
        "volume of RELION 5 is that of the binned tomogram",
        "formats/star.py",
        "if series.size_xyz_angstrom is None else np.array(series.size_xyz_angstrom)",
        "if True else np.array(series.size_xyz_angstrom)",
        "test_writers.py",
    ),
    Mutant(
        "IMOD models half a voxel up",
        "formats/imod.py",
        "np.array([0.5, 0.5, 0.0])",
        "np.array([0.5, 0.5, 0.5])",
        "test_writers.py",
    ),
    Mutant(
        "Dynamo tables from 0",
        "formats/dynamo.py",
        "tomogram.voxels_xyz(picks) + FIRST_PIXEL",
        "tomogram.voxels_xyz(picks)",
        "test_writers.py",
    ),
    Mutant(
        "EMAN2 boxes from a true half",
        "formats/eman2.py",
        "np.array(tomogram.size_xyz) // 2",
        "np.array(tomogram.size_xyz) / 2",
        "test_writers.py",
    ),
    Mutant(
        "markers without the origin of the map",
        "data/map_origin.py",
        "return tuple((start * step).tolist())",
        "return 0.0, 0.0, 0.0",
        "test_writers.py",
    ),
    Mutant(
        "voxels of the resampled tomogram",
        "formats/export.py",
        "shape, voxel_size = tomogram.file_grid",
        "shape, voxel_size = tomogram.shape_zyx, (tomogram.voxel_spacing_angstrom,) * 3",
        "test_writers.py",
    ),
    Mutant(
        "saved maps of stride 2 half a block off",
        "evaluation/saved_maps.py",
        "shift = (stride - 1) / 2 * spacing",
        "shift = 0.0",
        "test_saved_maps.py",
    ),
    Mutant(
        "saved maps at an origin along other axes",
        "evaluation/saved_maps.py",
        "first_zyx = map_origin_xyz_angstrom(source.tomogram.path)[::-1]",
        "first_zyx = map_origin_xyz_angstrom(source.tomogram.path)",
        "test_saved_maps.py",
    ),
    Mutant(
        "saved maps of another tomogram stay",
        "evaluation/saved_maps.py",
        'if path.exists() and _notes(path).get("key") != key:',
        "if False:",
        "test_saved_maps.py",
    ),
    Mutant(
        "labels of many particles wrap",
        "evaluation/saved_maps.py",
        "np.min_scalar_type(-len(particles) - 1)",
        "np.int8",
        "test_saved_maps.py",
    ),
    Mutant(
        "finished picks are made again for maps",
        "evaluation/runs.py",
        "            if done is None:\n                record = _detect",
        "            if done is None or must_save:\n                record = _detect",
        "test_saved_maps.py",
    ),
    Mutant(
        "edge counted from the centres of voxels",
        "evaluation/selection.py",
        "from_first_face = points + size / 2",
        "from_first_face = points",
        "test_selection.py",
    ),
    Mutant(
        "either side of a mask",
        "evaluation/selection.py",
        " == (selection.mask_side == INSIDE)",
        "",
        "test_selection.py",
    ),
    Mutant(
        "picks finished for another selection",
        "evaluation/picking.py",
        '"selection": asdict(task.selection),',
        "",
        "test_pick_particles.py",
    ),
    Mutant(
        "picks finished for another mask",
        "evaluation/picking.py",
        '"mask": None if task.mask is None else maps.hashes.of(task.mask),',
        "",
        "test_pick_particles.py",
    ),
    Mutant(
        "edge of a tomogram with its axes exchanged",
        "evaluation/picking.py",
        "        shape_zyx=shape,\n",
        "        shape_zyx=shape[::-1],\n",
        "test_pick_particles.py",
    ),
    Mutant(
        "formats of earlier picks stay",
        "formats/writers.py",
        '(path.split("/")[0] in names or ours.picks != picks)',
        'path.split("/")[0] in names',
        "test_writers.py",
    ),
    Mutant(
        "page of tomograms that can no longer be read",
        "pick_particles.py",
        "if results.failures or not",
        "if not",
        "test_pick_particles.py",
    ),
    Mutant(
        "shards that begin at the next tomogram",
        "evaluation/shards.py",
        "items[self.number - 1 :: self.count]",
        "items[self.number % self.count :: self.count][1:]",
        "test_shards.py",
    ),
    Mutant(
        "tasks of a job array that count one too many",
        "evaluation/shards.py",
        "return cls(task or count, count)",
        "return cls(task + 1, count)",
        "test_shards.py",
    ),
    Mutant(
        "shards of other work taken for finished",
        "evaluation/shards.py",
        'note["failures"] if note["key"] == key else None',
        'note["failures"]',
        "test_shards.py",
    ),
    Mutant(
        "tables before all shards are finished",
        "evaluation/shards.py",
        "if failed is None]",
        "if failed == 0]",
        "test_shards.py",
    ),
    Mutant(
        "failures of other shards forgotten",
        "evaluation/shards.py",
        "why = failed.get(one.source.name)",
        "why = None",
        "test_shards.py",
    ),
    Mutant(
        "a folder for a command beside its shards",
        "evaluation/ownership.py",
        "if shard is None or not other.name.endswith",
        "if not other.name.endswith",
        "test_shards.py",
    ),
    Mutant(
        "shards of other flags at the same time",
        "evaluation/ownership.py",
        "if there or others:",
        "if there:",
        "test_shards.py",
    ),
    Mutant(
        "leftovers of shards that are at work removed",
        "evaluation/ownership.py",
        "if shard is None:  # what shards leave may be of another that is at work",
        "if True:",
        "test_shards.py",
    ),
    Mutant(
        "mistakes in the input tried again on workers",
        "cluster/worker.py",
        "record.error is not None and not isinstance(record.error, InputError)",
        "record.error is not None",
        "test_cluster.py",
    ),
    Mutant(
        "troubles of a machine not tried again",
        "cluster/dask_workers.py",
        "RETRIES = 2",
        "RETRIES = 0",
        "test_cluster.py",
    ),
    Mutant(
        "workers of another version at work",
        "cluster/worker.py",
        "if code_hash() != self.code:",
        "if False:",
        "test_cluster.py",
    ),
    Mutant(
        "all workers on the first GPU",
        "cluster/start.py",
        '{"CUDA_VISIBLE_DEVICES": gpus[index]}',
        '{"CUDA_VISIBLE_DEVICES": gpus[0]}',
        "test_cluster.py",
    ),
    Mutant(
        "workers that end after their job",
        "cluster/start.py",
        "max(total - BEFORE_THE_END, total // 2)",
        "total",
        "test_cluster.py",
    ),
    Mutant(
        "chunks that grow without end",
        "data/zarr_chunks.py",
        "if said is not None and said > most:",
        "if False:",
        "test_tomogram.py",
    ),
    Mutant(
        "circles of other picks",
        "evaluation/overlays.py",
        "cut[chosen] / 10",
        "cut[: chosen.sum()][::-1] / 10",
        "test_overlays.py",
    ),
    Mutant(
        "tomograms matched the wrong way round",
        "data/spectrum.py",
        "np.log(np.maximum(wanted, tiny)) - np.log(np.maximum(own, tiny))",
        "np.log(np.maximum(own, tiny)) - np.log(np.maximum(wanted, tiny))",
        "test_spectrum.py",
    ),
    Mutant(
        "filters that reach round the tomogram",
        "data/spectrum.py",
        "least = min(REACH_VOXELS, size - 1)",
        "least = 0",
        "test_spectrum.py",
    ),
    Mutant(
        "slabs cut a plane too early",
        "data/spectrum.py",
        "start - low + margins[0][0]",
        "start - low",
        "test_spectrum.py",
    ),
    Mutant(
        "maps of matched tomograms taken for those of others",
        "inference/maps/network_maps.py",
        '{"matching": matching}',
        "{}",
        "test_network_maps.py",
    ),
    Mutant(
        "inverted contrast not told",
        "inference/tomograms.py",
        "own * trained_skewness < 0",
        "own * trained_skewness > 1e9",
        "test_source_tomograms.py",
    ),
    Mutant(
        "filters that only make high frequencies stronger",
        "data/augmentation.py",
        "(rise * (MAX_FALL + MAX_RISE) - MAX_FALL)",
        "(rise * (MAX_FALL + MAX_RISE) + MAX_FALL)",
        "test_spectrum.py",
    ),
    Mutant(
        "layers of other classes taken",
        "training/initial_weights.py",
        "if [one.name for one in description.particles] == [one.name for one in particles]:",
        "if len(description.particles) == len(particles):",
        "test_initial_weights.py",
    ),
    Mutant(
        "networks on workers run in several threads",
        "cluster/worker.py",
        "ThreadPoolExecutor(1, ",
        "ThreadPoolExecutor(2, ",
        "test_cluster.py",
    ),
    Mutant(
        "patches of other data never drawn",
        "data/patches.py",
        "volumes = self.extra if is_extra else self.volumes",
        "volumes = self.volumes",
        "test_extra_data.py",
    ),
    Mutant(
        "a fold trained on what it holds out",
        "train.py",
        "    check_other_data(labels, extra)\n",
        "",
        "test_extra_data.py",
    ),
    Mutant(
        "planes before a slab filtered twice",
        "data/spectrum.py",
        "np.concatenate((before, volume[start:high])",
        "np.concatenate((volume[low:start], volume[start:high])",
        "test_spectrum.py",
    ),
)


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.mutants",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these breaks alone")
    return parser


def main(argv: list[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    wanted = [mutant for mutant in MUTANTS if args.only is None or mutant.name in args.only]
    with tempfile.TemporaryDirectory() as folder:
        copy = copy_of_the_program(Path(folder))
        for tests in tqdm(dict.fromkeys(mutant.tests for mutant in wanted), desc="unbroken", disable=None):
            if exit_code(tests, copy) != 0:
                sys.exit(f"{tests}: must pass before anything is broken")
        verdicts = {mutant.name: verdict(mutant, copy) for mutant in tqdm(wanted, disable=None)}
    print("| break | file | |\n|---|---|---|")
    for mutant in wanted:
        print(f"| {mutant.name} | {mutant.file} | {verdicts[mutant.name]} |")
    caught = sum(one == "caught" for one in verdicts.values())
    print(f"\n{caught} of {len(wanted)} caught")
    stale = {"text not found", "tests did not run"} & set(verdicts.values())
    return int(caught < LEAST_SHARE * len(wanted) or bool(stale))


def copy_of_the_program(folder: Path) -> Path:
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines():
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    return folder


def verdict(mutant: Mutant, copy: Path) -> str:
    """caught, survived, text not found (once), or tests did not run."""
    path = copy / mutant.file
    whole = path.read_text(encoding="utf-8") if path.is_file() else ""
    if whole.count(mutant.old) != 1:
        return "text not found"
    path.write_text(whole.replace(mutant.old, mutant.new), encoding="utf-8")
    try:
        return {0: "survived", 1: "caught"}.get(exit_code(mutant.tests, copy), "tests did not run")
    finally:
        path.write_text(whole, encoding="utf-8")


def exit_code(tests: str, copy: Path) -> int:
    """That of pytest: 0 all pass, 1 one failed (or did not end), others where they could not be run."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"]
    command += [f"tests/{name}" for name in tests.split()]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        return subprocess.run(command, cwd=copy, env=environment, capture_output=True, timeout=SECONDS).returncode
    except subprocess.TimeoutExpired:
        return 1


if __name__ == "__main__":
    sys.exit(main())
