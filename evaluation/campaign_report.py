"""From the finished tomograms of a campaign to its tables, submissions and report."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from data.czi import find_runs
from data.picks import write_submission
from evaluation.campaign import Campaign, Study
from evaluation.campaign_results import CampaignResults, Curve, ExperimentResult, Overlay
from evaluation.chosen_curves import pooled, read_chosen_curves
from evaluation.comparison import (
    Evaluated,
    comparison_by_particle,
    comparison_summary,
    per_tomogram_table,
    ranked,
)
from evaluation.experiments import Configuration, Detector
from evaluation.overlays import save_overlay
from evaluation.report import write_report
from evaluation.tomograms import open_tomograms
from postprocessing import METHODS


def write_results(campaign: Campaign, studies: Sequence[Study], *, title: str, command: str, facts: Mapping[str, str]) -> pd.DataFrame:
    """All tables, a submission for each detector, and report.html; the summary comes back."""
    folder, particles = campaign.folder, campaign.particles
    truth = pd.concat(campaign.truths.values(), ignore_index=True)
    results = []
    for configuration, detectors in campaign.configurations(studies).items():
        picks = {one.name: folder.picks(configuration, one.name, list(campaign.truths), particles) for one in detectors}
        for name, table in picks.items():
            write_submission(folder.detector_dir(configuration, name) / "submission.csv", table)
        results.append(Evaluated(configuration, picks, truth, tuple(particles)))
    summary = comparison_summary(results)
    folder.write_table("comparison_summary.csv", summary)
    folder.write_table("comparison_summary_by_particle.csv", comparison_by_particle(results))
    folder.write_table("per_tomogram_scores.csv", per_tomogram_table(results))
    return summary
