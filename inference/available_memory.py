"""How much main memory this process may still take."""

import math
import os
from pathlib import Path

MEMINFO = Path("/proc/meminfo")
CGROUP = Path("/proc/self/cgroup")
CGROUP_ROOT = Path("/sys/fs/cgroup")
# Version 2 and version 1 of Linux control groups: folder, file of the limit, file of what is used.
CGROUP_FILES = (("", "memory.max", "memory.current"), ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes"))


def available_memory_bytes() -> int:
    """The least of what the machine has free and what is left to the job or container that this process runs in.

    Outside of Linux half of the machine's memory is taken as free, and 8 GB where even that is unknown.
    """
    return int(min(_free_on_machine(), _left_to_control_group()))


def _free_on_machine() -> float:
    try:
        for line in MEMINFO.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2
    except (AttributeError, OSError, ValueError):
        return 8e9


def _left_to_control_group() -> float:
    """A job scheduler limits a group or one of the groups around it; infinite without a limit."""
    left = math.inf
    try:
        groups = [line.split(":", 2)[1:] for line in CGROUP.read_text().splitlines()]
    except (OSError, ValueError):
        return left
    for controllers, group in groups:
        for folder, limit, used in CGROUP_FILES:
            if folder in controllers.split(","):
                root = CGROUP_ROOT / folder
                own = root / group.lstrip("/")
                around = [parent for parent in own.parents if parent.is_relative_to(root)]
                left = min(left, *(_left_in(group_folder, limit, used) for group_folder in (own, *around)))
    return left


def _left_in(folder: Path, limit: str, used: str) -> float:
    try:
        # Files that were read count as used but give way when memory is asked for.
        statistics = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        cached = int(statistics.get("inactive_file", 0))
        return max(0, int((folder / limit).read_text()) - int((folder / used).read_text()) + cached)
    except (OSError, ValueError):  # no such group, or a limit called "max"
        return math.inf
