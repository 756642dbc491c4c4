"""Write docs/flags.md: every flag of every script, made from the parsers.

python -m docs.flags
"""

import argparse
import importlib
import os
from dataclasses import dataclass
from pathlib import Path

import config

PATH = Path(__file__).with_name("flags.md")
MODULES = (
    "make_phantom_dataset",
    "import_dataset",
    "prepare_mask_czi",
    "prepare_fullpublic_eval_annotations",
    "train",
    "eval_public_czi",
    "pick_particles",
    "run_experiment_evaluation",
    "metrics.fbeta",
)
SHARED = "Several scripts"
HEAD = """# Flags

Made from the scripts' parsers by `make docs`. Every flag stands once, in the table of its group; a flag that scripts
have in different groups or with different meanings stands under [Several scripts](#several-scripts). Defaults are those
of `config.py`, where paths can also come from the environment; where the default is empty, the text says what happens.
"""


@dataclass(frozen=True)
class Use:
    """A flag in the parser of one script."""

    script: str
    group: str
    values: str
    meaning: str
    default: str


def main() -> None:
    # The page shows the constants of config.py, whatever the environment says.
    for name in [name for name in os.environ if name.startswith("ETFINDER_")]:
        del os.environ[name]
    importlib.reload(config)
    PATH.write_text(render(), encoding="utf-8")


def render() -> str:
    """The page: where each script's flags are, then a table for each group of flags."""
    uses: dict[str, list[Use]] = {}
    for module in MODULES:
        for flag, use in uses_of(module):
            uses.setdefault(flag, []).append(use)
    sections: dict[str, dict[str, list[Use]]] = {SHARED: {}}
    for flag, of in uses.items():
        alike = len({(use.group, use.meaning, use.default) for use in of}) == 1
        sections.setdefault(of[0].group if alike else SHARED, {})[flag] = of
    return HEAD + contents(sections) + "".join(section(title, rows) for title, rows in sections.items())


def script_of(module: str) -> str:
    return f"`python -m {module}`" if "." in module else f"`{module}.py`"


def uses_of(module: str) -> list[tuple[str, Use]]:
    """(flag, use) of a script's parser, in its order."""
    parser = importlib.import_module(module).build_parser()
    return [
        (" / ".join(action.option_strings), use_of(action, script_of(module), group.title))
        for group in parser._action_groups
        for action in group._group_actions
        if not isinstance(action, argparse._HelpAction)
    ]


def use_of(action: argparse.Action, script: str, group: str) -> Use:
    choices = f": {', '.join(f'`{choice}`' for choice in action.choices)}" if action.choices else ""
    return Use(
        script=script,
        group="Scoring alone" if group == "options" else group[0].upper() + group[1:],
        values=values_of(action),
        meaning=(action.help % vars(action) + choices).replace("|", "\\|"),
        default=default_of(action),
    )


def values_of(action: argparse.Action) -> str:
    """What follows the flag where that is more than one value."""
    if action.nargs == "+":
        return f" {action.metavar or 'NAME'} ..."
    return "".join(f" {name}" for name in action.metavar) if isinstance(action.metavar, tuple) else ""


def default_of(action: argparse.Action) -> str:
    if action.required:
        return "required"
    if isinstance(action.default, bool):
        return "on" if action.default else "off"
    values = action.default if isinstance(action.default, list | tuple) else [action.default]
    return " ".join(f"{value:g}" if isinstance(value, float) else str(value) for value in values if value is not None)


def contents(sections: dict[str, dict[str, list[Use]]]) -> str:
    """Which tables hold the flags of each script."""
    lines = ["\n| script | its flags |", "|---|---|"]
    for script in map(script_of, MODULES):
        titles = [
            title for title, rows in sections.items() if script in {use.script for of in rows.values() for use in of}
        ]
        links = (f"[{title}](#{title.lower().replace(' ', '-')})" for title in titles)
        lines.append(f"| {script} | {', '.join(links)} |")
    return "\n".join(lines) + "\n"


def section(title: str, rows: dict[str, list[Use]]) -> str:
    """The scripts stand above the table where all its flags have the same, else beside each flag."""
    scripts = {tuple(use.script for use in of) for of in rows.values()}
    same = title != SHARED and len(scripts) == 1
    lines = [f"\n## {title}\n"]
    if same:
        lines.append(f"{', '.join(*scripts)}\n")
    columns = ["flag", *([] if same else ["scripts"]), "default", "meaning"]
    lines += [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for flag, of in rows.items():
        name = " / ".join(f"`{one}{of[0].values}`" for one in flag.split(" / "))
        variants: dict[tuple[str, str], list[str]] = {}
        for use in of:
            variants.setdefault((use.default, use.meaning), []).append(use.script)
        for (default, meaning), having in variants.items():
            cells = [name, *([] if same else [", ".join(having)]), default, meaning]
            lines.append(f"| {' | '.join(cells)} |")
            name = ""  # further lines are of the same flag
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
