"""From the finished tomograms of a campaign to its tables, submissions and report."""

import platform
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import torch

from evaluation.campaign.campaign import Campaign, DetectorTask, Study
from evaluation.campaign.comparison import (
    Evaluated,
    comparison_by_particle,
    comparison_summary,
    paired_tests,
    per_tomogram_table,
    ranked,
)
from evaluation.campaign.configuration import Configuration
from evaluation.campaign.results import CampaignResults, Curve, ExperimentResult, Overlay
from evaluation.exports import read_curves, read_run_table
from evaluation.overlays import save_overlay
from evaluation.report.page import write_report
from metrics.threshold_curve import pooled
from postprocessing import METHODS


def write_tables(campaign: Campaign, studies: Sequence[Study]) -> tuple[list[Evaluated], pd.DataFrame]:
    """The picks of each detector for other programs, and the tables that compare all configurations.

    Returns the configurations and the paired tests between them; none where no configuration has all tomograms.
    """
    folder, configurations = campaign.folder, campaign.configurations(studies)
    if not configurations:
        folder.remove_summaries()
        return [], pd.DataFrame()
    truth, runs = pd.concat(campaign.truths.values(), ignore_index=True), list(campaign.truths)
    results = []
    for configuration, tasks in configurations.items():
        names = [task.detector.name for task in tasks]
        picks = ((name, folder.export(configuration, name, runs, campaign.particles)) for name in names)
        results.append(Evaluated.of_picks(configuration, picks, truth, campaign.particles))
    tests = paired_tests(results)
    folder.write_table("comparison_summary.csv", comparison_summary(results, tests))
    folder.write_table("comparison_summary_by_particle.csv", comparison_by_particle(results))
    folder.write_table("per_tomogram_scores.csv", per_tomogram_table(results))
    return results, tests


def write_campaign_report(
    campaign: Campaign,
    studies: Sequence[Study],
    results: Sequence[Evaluated],
    tests: pd.DataFrame,
    *,
    comment: str,
    command: str,
    notes: Sequence[str] = (),
) -> None:
    """report.html, with pictures of the best and the worst tomogram of each experiment's best configuration.

    ``tests``: what write_tables returned. ``notes``: sentences to stand below the ranking.
    """
    tasks, seconds = campaign.configurations(studies), _Seconds(campaign)
    by_name = {study.experiment.name: study for study in studies}
    pictured = {one.configuration.experiment: one for one in reversed(ranked(results))}.values()
    experiments = [
        _experiment_result(
            campaign,
            by_name[one.configuration.experiment],
            one,
            tasks[one.configuration],
            seconds,
            _overlays(campaign, by_name[one.configuration.experiment], one) if one in pictured else [],
        )
        for one in results
    ]
    facts = {
        "evaluated on": f"{campaign.data_root}: {', '.join(campaign.truths)}",
        **{f"{study.experiment.name} tuned on": str(study.training_root) for study in studies if study.training_root},
        "device": _device_name(campaign.maps.device),
        "versions": f"Python {platform.python_version()}, torch {torch.__version__}",
    }
    content = CampaignResults(
        title=_title(len(by_name), len(experiments), len(campaign.truths)),
        comment=comment,
        date=time.strftime("%Y-%m-%d %H:%M"),
        particles=campaign.particles,
        experiments=experiments,
        facts=facts,
        commands=[command],
        comparisons=tests,
        notes=notes,
    )
    write_report(campaign.folder.root / "report.html", content)


def _experiment_result(
    campaign: Campaign,
    study: Study,
    evaluated: Evaluated,
    tasks: Sequence[DetectorTask],
    seconds: "_Seconds",
    overlays: Sequence[Overlay],
) -> ExperimentResult:
    configuration = evaluated.configuration
    method = METHODS[configuration.method]
    folds = {fold.name: fold.index for fold in study.experiment.folds}
    return ExperimentResult(
        name=configuration.experiment,
        comment=study.experiment.arguments.get("comment", ""),
        strategy=configuration.strategy,
        method=configuration.method,
        tta_group=configuration.views,
        networks=len(tasks[0].detector.ensemble.members),
        score=evaluated.score,
        interval=evaluated.interval,
        position_errors=evaluated.position_errors,
        seconds_per_tomogram=seconds.per_tomogram(study, configuration, tasks),
        threshold_name=method.score_keyword or method.size_keyword,
        curves=_curves(campaign, configuration, tasks),
        fold_scores={folds[name]: score.weighted for name, score in evaluated.scores.items() if name in folds},
        overlays=overlays,
        untuned=campaign.is_untuned(configuration, tasks),
    )


def _curves(campaign: Campaign, configuration: Configuration, tasks: Sequence[DetectorTask]) -> dict[str, Curve]:
    """Of all detectors and tomograms together, with the mean of the thresholds that were used."""
    method = METHODS[configuration.method]
    keyword = method.score_keyword or method.size_keyword
    names = [task.detector.name for task in tasks]
    folders = [campaign.folder.picks_dir(configuration, name, run) for name in names for run in campaign.truths]
    found = [read_curves(folder) for folder in folders]
    used = [campaign.folder.thresholds(configuration, name, keyword) for name in names]
    curves = {}
    for particle in campaign.particles:
        chosen = float(np.mean([one[particle.name] for one in used]))
        curve = pooled(one[particle.name] for one in found)
        over_scores = Curve.of(curve, chosen)
        curves[particle.name] = over_scores if method.score_keyword else _over_sizes(over_scores)
    return curves


def _over_sizes(curve: Curve) -> Curve:
    """From scores v / (1 + v) to shares v of the sphere's volume, see detection.proposals.threshold_curves."""
    return replace(curve, thresholds=curve.thresholds / (1 - curve.thresholds))


class _Seconds:
    """Of the campaign's work, as measured when it was done; the files that say it are read once."""

    def __init__(self, campaign: Campaign) -> None:
        self._campaign = campaign
        self._networks = campaign.maps.timings.read().drop_duplicates("key", keep="last").set_index("key")["seconds"]
        done = campaign.folder.timings.read()
        done = done[done["work"] == "detection"].drop_duplicates(["configuration", "detector", "tomogram"], keep="last")
        self._detection = done.groupby("configuration")["seconds"].sum()

    def per_tomogram(
        self, study: Study, configuration: Configuration, tasks: Sequence[DetectorTask]
    ) -> dict[str, float]:
        """Stage -> seconds of one detector on one of the evaluated tomograms; without stages that nobody measured."""
        sources, maps = study.sources(self._campaign.data_root, self._campaign.truths), self._campaign.maps
        keys = {
            key
            for task in tasks
            for source in sources
            for key in maps.keys(task.detector.ensemble, source, task.inference)
        }
        network, pieces = self._networks[self._networks.index.isin(keys)], len(tasks) * len(sources)
        stages = {"network": float(network.sum()) / pieces} if len(network) else {}
        if str(configuration) in self._detection.index:
            stages["detection"] = float(self._detection[str(configuration)]) / pieces
        return stages


def _overlays(campaign: Campaign, study: Study, evaluated: Evaluated) -> list[Overlay]:
    """Of the first detector: its best and its worst tomogram."""
    detector, score = next(iter(evaluated.scores.items()))
    ordered = score.weighted_per_run.sort_values(ascending=False, kind="stable")
    return list(_draw(campaign, study, evaluated, detector, dict.fromkeys([ordered.index[0], ordered.index[-1]])))


def _draw(
    campaign: Campaign, study: Study, evaluated: Evaluated, detector: str, run_names: Mapping[str, None]
) -> Iterator[Overlay]:
    tomograms = {source.run.name: source.tomogram for source in study.sources(campaign.data_root, campaign.truths)}
    for name in run_names:
        value = evaluated.scores[detector].weighted_per_run[name]
        path = save_overlay(
            campaign.folder.detector_dir(evaluated.configuration, detector) / "overlays" / f"{name}.jpg",
            tomograms[name].read(),
            picks=read_run_table(campaign.folder.picks_dir(evaluated.configuration, detector, name)),
            truth=campaign.truths[name],
            voxel_spacing_angstrom=tomograms[name].voxel_spacing_angstrom,
            particles=campaign.particles,
            title=name,
            colour_by_kind=True,
        )
        yield Overlay(name, f"{name}, {detector}: weighted F4 {value:.3f}", path)


def _title(experiments: int, configurations: int, tomograms: int) -> str:
    numbers = {"experiment": experiments, "configuration": configurations, "tomogram": tomograms}
    first, second, third = (f"{number} {name}{'s' * (number != 1)}" for name, number in numbers.items())
    return f"{first} in {second} on {third}"


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
