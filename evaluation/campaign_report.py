"""From the finished tomograms of a campaign to its tables, submissions and report."""

from collections.abc import Mapping, Sequence

import pandas as pd

from data.picks import write_submission
from evaluation.campaign_folder import CampaignFolder
from evaluation.comparison import Evaluated, comparison_by_particle, comparison_summary, per_tomogram_table
from evaluation.experiments import Configuration, Task
from particle_config import Particle


def write_tables(
    folder: CampaignFolder,
    configurations: Mapping[Configuration, Sequence[Task]],
    truths: Mapping[str, pd.DataFrame],
    particles: Sequence[Particle],
) -> list[Evaluated]:
    """A submission for each detector, and the tables that compare all configurations."""
    truth = pd.concat(truths.values(), ignore_index=True)
    results = []
    for configuration, tasks in configurations.items():
        names = [task.detector.name for task in tasks]
        picks = {name: folder.picks(configuration, name, list(truths), particles) for name in names}
        for name, table in picks.items():
            write_submission(folder.detector_dir(configuration, name) / "submission.csv", table)
        results.append(Evaluated(configuration, picks, truth, tuple(particles)))
    folder.write_table("comparison_summary.csv", comparison_summary(results))
    folder.write_table("comparison_summary_by_particle.csv", comparison_by_particle(results))
    folder.write_table("per_tomogram_scores.csv", per_tomogram_table(results))
    return results
