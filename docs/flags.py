"""Writes docs/flags.md: every flag of every script, made from the parsers.

python -m docs.flags
"""

import argparse
import importlib
import os
from pathlib import Path

from tqdm import tqdm

ROOT = Path(__file__).parents[1]
PATH = ROOT / "docs" / "flags.md"
MODULES = (
    "make_phantom_dataset",
    "prepare_mask_czi",
    "prepare_fullpublic_eval_annotations",
    "train",
    "eval_public_czi",
    "run_experiment_evaluation",
    "metrics.fbeta",
)
HEAD = """# Flags

Made from the scripts' parsers by `python -m docs.flags`. A flag that several scripts share stands once. Where no
default stands the text says it; those of paths can come from the environment (see config.py).
"""

Row = tuple[str, str, str]


def main() -> None:
    # Defaults are those of config.py, whatever this machine's environment says.
    for name in [name for name in os.environ if name.startswith("ETFINDER_")]:
        del os.environ[name]
    PATH.write_text(render(), encoding="utf-8")


def render() -> str:
    """The page: a section for each group of flags, a row for each flag with the scripts that have it."""
    sections: dict[str, dict[Row, list[str]]] = {}
    for module in tqdm(MODULES, disable=None):
        parser = importlib.import_module(module).build_parser()
        for group in parser._action_groups:
            for action in group._group_actions:
                if not isinstance(action, argparse._HelpAction):
                    title = "scoring alone" if group.title == "options" else group.title
                    sections.setdefault(title, {}).setdefault(row_of(action), []).append(script_of(module))
    return HEAD + "".join(section(title, rows) for title, rows in sections.items())


def script_of(module: str) -> str:
    return f"`python -m {module}`" if "." in module else f"`{module}.py`"


def row_of(action: argparse.Action) -> Row:
    """Flag, meaning, default."""
    choices = f": {', '.join(f'`{choice}`' for choice in action.choices)}" if action.choices else ""
    return " / ".join(f"`{flag}`" for flag in action.option_strings), f"{action.help}{choices}", default_of(action)


def default_of(action: argparse.Action) -> str:
    if action.required:
        return "required"
    if isinstance(action.default, bool):
        return "on" if action.default else "off"
    values = action.default if isinstance(action.default, list | tuple) else [action.default]
    return " ".join("" if value is None else str(value) for value in values)


def section(title: str, rows: dict[Row, list[str]]) -> str:
    """The scripts stand above the table where all its flags have the same, else beside each flag."""
    first = next(iter(rows.values()))
    same = all(scripts == first for scripts in rows.values())
    lines = [f"\n## {title[0].upper()}{title[1:]}\n"]
    if same:
        lines.append(f"{', '.join(first)}\n")
    lines += ["| flag | meaning | default |" + " scripts |" * (not same), "|---|---|---|" + "---|" * (not same)]
    for cells, scripts in rows.items():
        lines.append("| " + " | ".join([*cells, *([] if same else [", ".join(scripts)])]) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
