"""What a result was made with: the versions of the program and its packages, and the command."""

import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).parent
# The requirements that results can depend on.
PACKAGES = (
    *("torch", "pytorch-lightning", "monai", "numpy", "scipy", "pandas", "scikit-image", "connected-components-3d"),
    *("zarr", "numcodecs", "mrcfile", "starfile"),
)


def typed_command(script: str, argv: Sequence[str] | None = None) -> str:
    """The command of a script's file as it can be typed again; ``argv``: its flags, if not those of the process."""
    return shlex.join(["python", Path(script).name, *(sys.argv[1:] if argv is None else argv)])


@cache
def versions() -> dict[str, str | None]:
    """Name -> version, of the program (its git commit, "-changed" where files differ from it), Python and packages."""
    return {
        "etfinder": _git_commit(),
        "python": platform.python_version(),
        **{name: _version(name) for name in PACKAGES},
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _git_commit() -> str | None:
    """None for a copy without git's history."""
    where = ["--git-dir", str(ROOT / ".git"), "--work-tree", str(ROOT)]
    what = ["describe", "--always", "--exclude", "*", "--abbrev=40", "--dirty=-changed"]
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
    try:
        done = subprocess.run(
            ["git", *where, *what], env=environment, capture_output=True, text=True, timeout=30, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None
