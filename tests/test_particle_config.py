"""The particle table: names, aliases, and adding a row."""

import pytest

from errors import InputError
from particle_config import (
    PARTICLES,
    Particle,
    check_table,
    find_particle,
    table_as_dicts,
    table_from_dicts,
)


def test_the_table_of_the_challenge():
    rows = [(p.name, p.radius_angstrom, p.score_weight, p.label) for p in PARTICLES]
    assert rows == [
        ("apo-ferritin", 60, 1, 1),
        ("beta-amylase", 65, 0, 2),
        ("beta-galactosidase", 90, 2, 3),
        ("ribosome", 150, 1, 4),
        ("thyroglobulin", 130, 2, 5),
        ("virus-like-particle", 135, 1, 6),
    ]


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("ferritin_complex", "apo-ferritin"),
        ("Beta_Amylase", "beta-amylase"),
        ("beta galactosidase", "beta-galactosidase"),
        ("cytosolic_ribosome", "ribosome"),
        ("virus_like_capsid", "virus-like-particle"),
        ("virus-like_capsid", "virus-like-particle"),
        ("PP7_VLP", "virus-like-particle"),
        ("pseudomonas_phage_pp7_vlp", "virus-like-particle"),
    ],
)
def test_portal_names(spelling, name):
    assert find_particle(spelling).name == name


def test_an_unknown_name_is_not_guessed():
    assert find_particle("ferritin-like") is None


def test_plain_values_and_back():
    assert table_from_dicts(table_as_dicts(PARTICLES)) == PARTICLES


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (Particle("proteasome", 60, 1, 9, "#fff"), "labels"),
        (Particle("cytosolic ribosome", 60, 1, 7, "#fff"), "two rows"),
        (Particle("proteasome", 0, 1, 7, "#fff"), "radius"),
    ],
)
def test_a_wrong_row_is_refused(row, reason):
    with pytest.raises(InputError, match=reason):
        check_table((*PARTICLES, row))


def test_a_good_row_is_accepted():
    check_table((*PARTICLES, Particle("proteasome", 80, 1, 7, "#123456")))
