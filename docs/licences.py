"""Writes docs/licences.md and constraints.txt, from the requirements and the packages that are installed.

python -m docs.licences
"""

from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
TABLE, CONSTRAINTS = ROOT / "docs" / "licences.md", ROOT / "constraints.txt"
# What users install; the second for workers of Dask alone.
REQUIREMENTS = ("requirements.txt", "requirements-cluster.txt")
# Longer texts are the licence itself, which the classifiers name.
LONGEST_NAME = 60


def requirements() -> dict[str, str]:
    """Package -> version of every line in the requirements of users."""
    lines = [line for name in REQUIREMENTS for line in (ROOT / name).read_text().splitlines()]
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def licence(package: str) -> str:
    """As the installed package says it."""
    about = metadata.metadata(package)
    if expression := about.get("License-Expression"):
        return expression
    name = about.get("License") or ""
    if name and len(name) <= LONGEST_NAME and "\n" not in name:
        return name
    classifiers = [one.split(" :: ")[-1] for one in about.get_all("Classifier", ()) if one.startswith("License")]
    return ", ".join(classifiers) or "not said"


def closure() -> dict[str, str]:
    """Name -> installed version of all that the requirements need, themselves included."""
    todo, found = [(name, frozenset()) for name in requirements()], set()
    while todo:
        name, extras = todo.pop()
        if (name, extras) not in found:
            found.add((name, extras))
            todo += [(canonicalize_name(one.name), frozenset(one.extras)) for one in _needs(name, extras)]
    # torch names its build behind a +.
    return {name: metadata.version(name).split("+")[0] for name in sorted({name for name, _ in found})}


def _needs(name: str, extras: frozenset[str]) -> Iterator[Requirement]:
    for line in metadata.requires(name) or ():
        needed = Requirement(line)
        if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in ("", *extras)):
            yield needed


def rows() -> list[str]:
    return [f"| {package} | {version} | {licence(package)} |" for package, version in requirements().items()]


def main() -> None:
    head = ["# Licences of the requirements", "", "| package | version | licence |", "|---|---|---|"]
    TABLE.write_text("\n".join([*head, *rows()]) + "\n", encoding="utf-8")
    note = "# All that requirements.txt installs, as tested: pip install -r requirements.txt -c constraints.txt"
    pins = [f"{name}=={version}" for name, version in closure().items()]
    CONSTRAINTS.write_text("\n".join([note, *pins]) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
