"""The table of licences and the constraints are of the packages that requirements.txt names."""

from importlib import metadata

from docs.licences import CONSTRAINTS, TABLE, closure, licence, requirements


def test_the_table_is_that_of_the_requirements():
    rows = [line.strip("| ").split(" | ") for line in TABLE.read_text().splitlines() if line.startswith("| ")][1:]
    assert {name: version for name, version, _ in rows} == requirements()
    for name, version, said in rows:
        assert "not said" not in said
        if metadata.version(name).split("+")[0] == version:
            assert licence(name) == said, "python -m docs.licences writes it anew"


def test_the_constraints_hold_all_that_the_requirements_need():
    """Of this Python and system; their versions are those of the requirements where these name one."""
    pinned = dict(line.split("==") for line in CONSTRAINTS.read_text().splitlines() if not line.startswith("#"))
    assert requirements().items() <= pinned.items()
    assert set(closure()) <= set(pinned), "python -m docs.licences writes them anew"
