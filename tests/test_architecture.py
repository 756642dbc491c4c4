"""The house: imports flow one way, config is read where parsers are built, names and sizes stay in bounds."""

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LEAVES = {"data", "models", "losses", "tta", "postprocessing", "metrics"}
ALLOWED = {
    **{leaf: {leaf, "particle_config", "errors"} for leaf in LEAVES},
    "data": {"data", "particle_config", "errors", "versions"},
    "formats": {"formats", "data", "particle_config", "particle_file", "errors"},
    "inference": {"inference", "models", "tta", "data", "particle_config", "errors"},
    "detection": {*LEAVES, "inference", "detection", "particle_config", "errors"},
    "training": {*LEAVES, "inference", "detection", "training", "particle_config", "errors"},
    "evaluation": {*LEAVES, "inference", "detection", "evaluation", "particle_config", "errors"},
    "cluster": {"cluster", "evaluation", "inference", "data", "errors"},
    "config": set(),
    "errors": set(),
    "versions": set(),
    "command_line": {"errors", "versions"},
    "particle_config": {"particle_file", "errors"},
    "particle_file": {"errors"},
}
# Rooms that build parts of a parser may read config; nobody else below the scripts.
READS_CONFIG = {f"{room}/arguments.py" for room in ("detection", "evaluation", "inference", "training")}
# The metric has a command line of its own, which reads files inside its main only; augmentation and views share the
# orientations (see below).
EXCEPTIONS = {
    ("metrics/fbeta.py", "data"),
    ("metrics/fbeta.py", "command_line"),
    ("data/spatial_transforms.py", "tta"),
}
OURS = {
    *(*LEAVES, "formats", "inference", "detection", "training", "evaluation", "cluster"),
    *("config", "errors", "particle_config", "particle_file", "command_line", "versions"),
}
OUTSIDE = {"tests", "benchmarks", "docs"}
# Inside a room: each of these packages may import itself and those before it; what lies beside them is the first.
ORDER = {
    "inference": ("inference", "inference.maps"),
    "evaluation": ("evaluation", "evaluation.tuning", "evaluation.campaign", "evaluation.report"),
}


@cache
def modules() -> list[Path]:
    rooms = [path.parent for path in ROOT.glob("[!.]*/__init__.py") if path.parent.name not in OUTSIDE]
    files = [*ROOT.glob("*.py"), *(path for room in rooms for path in room.rglob("*.py"))]
    return sorted(path.relative_to(ROOT) for path in files)


def scripts() -> list[Path]:
    return [path for path in modules() if len(path.parts) == 1 and path.stem not in OURS]


def imported_rooms(path: Path) -> set[str]:
    rooms = set()
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.Import):
            rooms |= {name.name.split(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            rooms.add(node.module.split(".")[0])
    return rooms


@pytest.mark.parametrize("path", [p for p in modules() if p not in scripts()], ids=str)
def test_imports_flow_one_way(path):
    room = path.parts[0].removesuffix(".py")
    ours = imported_rooms(path) & (OURS | {script.stem for script in scripts()})
    allowed = ALLOWED[room] | ({"config"} if str(path) in READS_CONFIG else set())
    wrong = {name for name in ours - allowed if (str(path), name) not in EXCEPTIONS}
    assert not wrong, f"{path} must not import {sorted(wrong)}"


def test_every_picture_draws_names_as_they_are_written():
    drawing = [path for path in modules() if ".savefig(" in (ROOT / path).read_text()]
    assert len(drawing) > 3
    assert [str(path) for path in drawing if "from data.drawing import" not in (ROOT / path).read_text()] == []


def test_all_locks_are_of_one_kind():
    assert [str(path) for path in modules() if "filelock" in (ROOT / path).read_text()] == ["data/locks.py"]


def test_augmentation_shares_the_orientations_and_nothing_else():
    lines = (ROOT / "data/spatial_transforms.py").read_text().splitlines()
    assert {line.split()[1] for line in lines if line.startswith("from tta")} == {"tta.orientations"}
    assert imported_rooms(Path("tta/orientations.py")) & OURS == set()


def package_of(module: str, order: tuple[str, ...]) -> str:
    """The innermost package of a room's order that a module name lies in."""
    return max((one for one in order if f"{module}.".startswith(f"{one}.")), key=len)


@pytest.mark.parametrize("path", [p for p in modules() if p.parts[0] in ORDER], ids=str)
def test_packages_of_a_room_have_an_order(path):
    order = ORDER[path.parts[0]]
    here = package_of(".".join(path.parent.parts), order)
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == order[0]:
            for name in node.names:
                there = package_of(f"{node.module}.{name.name}", order)
                assert order.index(there) <= order.index(here), f"{path} must not import {there}"


@pytest.mark.parametrize("path", scripts(), ids=str)
def test_scripts_do_not_import_scripts(path):
    assert not imported_rooms(path) & {script.stem for script in scripts()}


@pytest.mark.parametrize("path", modules(), ids=str)
def test_nothing_assigns_to_config(path):
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        for target in targets:
            named = isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name)
            assert not (named and target.value.id == "config"), f"{path}:{node.lineno} assigns to config"


@pytest.mark.parametrize("path", [p for p in modules() if p != Path("particle_config.py")], ids=str)
def test_texts_do_not_name_one_table_where_another_may_be_in_effect(path):
    """ETFINDER_PARTICLES may have replaced it: errors say TABLE_SOURCE, help texts name both."""
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.JoinedStr | ast.Call):
            parts = [one.value for one in ast.walk(node) if isinstance(one, ast.Constant)]
            text = " ".join(part for part in parts if isinstance(part, str))
            assert "particle_config.py" not in text or "ETFINDER_PARTICLES" in text, f"{path}:{node.lineno}"


def test_no_room_without_a_concept():
    forbidden = {"utils", "misc", "common", "helpers"}
    for path in modules():
        assert not forbidden & {part.removesuffix(".py") for part in path.parts}, path
        assert "_v2" not in str(path)


@pytest.mark.parametrize("path", modules(), ids=str)
def test_module_says_what_it_is_for(path):
    assert ast.get_docstring(ast.parse((ROOT / path).read_text())), f"{path} has no docstring"


@pytest.mark.parametrize("path", scripts(), ids=str)
def test_scripts_have_parser_main_and_run_script(path):
    tree = ast.parse((ROOT / path).read_text())
    names = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    assert {"main", "build_parser"} <= names
    assert "run_script(main)" in (ROOT / path).read_text()
    assert "allow_abbrev=False" in (ROOT / path).read_text()


@pytest.mark.parametrize("path", [p for p in modules() if p not in scripts()], ids=str)
def test_no_namespace_below_the_scripts(path):
    """``args`` ends where it is parsed; only the shared flags' own room may see it."""
    if path.stem.endswith("arguments") or str(path) in {"metrics/fbeta.py", "training/argument_checks.py"}:
        return
    assert "Namespace" not in (ROOT / path).read_text()


def test_scripts_start_without_what_only_networks_need():
    """MONAI takes seconds to import, which a message about a wrong flag must not wait for."""
    scripts = "pick_particles, eval_public_czi, run_experiment_evaluation, train"
    code = f"from command_line import run_script; import sys, {scripts}; print('monai' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout == "False\n", done.stderr
