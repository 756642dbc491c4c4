"""README and parsers say the same: every flag in README exists, and every flag is in README."""

import importlib
import re
import shlex
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
SCRIPTS = sorted(path.stem for path in ROOT.glob("*.py") if "def build_parser" in path.read_text(encoding="utf-8"))
PARSERS = [*SCRIPTS, "metrics.fbeta"]


def flags_of(name):
    parser = importlib.import_module(name).build_parser()
    return {flag for action in parser._actions for flag in action.option_strings} - {"-h", "--help"}


def table_of(name):
    """The flags in the first column of the table under the heading that names the script."""
    title = "python -m metrics.fbeta" if name == "metrics.fbeta" else f"{name}.py"
    section = re.split(r"^#+ .*$", README.split(f"`{title}`\n", 1)[1], maxsplit=1, flags=re.MULTILINE)[0]
    first_cells = re.findall(r"^\| (`--[^|]*) \|", section, flags=re.MULTILINE)
    return {flag for cell in first_cells for flag in re.findall(r"--[\w-]+", cell)}


def commands():
    text = README.replace("\\\n", " ")
    blocks = "\n".join(re.findall(r"```bash\n(.*?)```", text, flags=re.DOTALL))
    return [line for line in blocks.splitlines() if re.match(r"python (-m metrics|\w+\.py)", line)]


@pytest.mark.parametrize("name", PARSERS)
def test_the_table_of_flags_is_the_parser(name):
    assert table_of(name) == flags_of(name)


@pytest.mark.parametrize("command", commands())
def test_commands_parse(command):
    words = shlex.split(command)[1:]
    name = words.pop(1) if words[0] == "-m" else words[0].removesuffix(".py")
    importlib.import_module(name).build_parser().parse_args(words[1:])


def test_there_are_commands_and_scripts():
    assert len(commands()) >= 8 and {"train", "eval_public_czi", "prepare_mask_czi"} <= set(SCRIPTS)


@pytest.mark.parametrize("path", sorted(set(re.findall(r"\]\(([\w./]+)\)", README))))
def test_links_lead_somewhere(path):
    assert (ROOT / path).exists()


def test_every_config_name_is_read():
    source = "\n".join(p.read_text() for p in [*ROOT.glob("*.py"), *ROOT.glob("*/*arguments.py")])
    names = re.findall(r"^([A-Z_]+) = ", (ROOT / "config.py").read_text(), flags=re.MULTILINE)
    unread = [name for name in names if f"config.{name}" not in source]
    assert not unread, f"config.py: nobody reads {unread}"
