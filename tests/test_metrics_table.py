"""The learning curves of a fold: every particle has the colour of the network's table."""

import pandas as pd
import pytest
from matplotlib.figure import Figure

from particle_config import PARTICLES, Particle
from training.metrics_table import MetricsTable

pytestmark = pytest.mark.pictures


def test_colours_are_those_of_the_networks_particles(tmp_path, monkeypatch):
    """One particle that no table here knows, and one that has another colour here."""
    particles = (Particle("spike", 90.0, 1.0, 1, "#102030"), Particle("ribosome", 150.0, 1.0, 2, "#405060"))
    assert "#405060" not in {particle.colour for particle in PARTICLES}
    drawn = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, path, **options: (drawn.append(figure), path.touch()))
    table = MetricsTable(tmp_path)
    table.rows = [{"epoch": 0, "step": 5, "f4": 0.5, "f4_spike": 0.4, "f4_ribosome": 0.6, "train_loss": 1.0}]
    pd.DataFrame(table.rows).to_csv(table.path, index=False)
    table.draw(particles)
    lines = {line.get_label(): line.get_color() for line in drawn[0].axes[1].lines}
    assert lines == {"spike": "#102030", "ribosome": "#405060", "weighted F4": "black"}
