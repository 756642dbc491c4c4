"""What made a folder of results, written down beside them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data.files import atomic_path
from versions import versions

PARAMETERS = "run_parameters.json"


def write_command_record(folder: Path, command: str, **content: Mapping[str, Any]) -> None:
    """PARAMETERS in a folder: the command, versions of program and packages, and plain values by name."""
    with atomic_path(folder / PARAMETERS) as temporary:
        record = {"command": command, "versions": versions(), **content}
        temporary.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
