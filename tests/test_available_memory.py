"""Free memory: the least of what the machine and the job's group leave."""

import pytest

from inference import available_memory as memory


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine with 16 GB free and a job in a group of a group, version 2."""
    (tmp_path / "meminfo").write_text("MemTotal: 32000000 kB\nMemFree: 1 kB\nMemAvailable:   16000000 kB\n")
    (tmp_path / "cgroup").write_text("0::/job_1/step_0\n")
    (tmp_path / "fs" / "job_1" / "step_0").mkdir(parents=True)
    monkeypatch.setattr(memory, "MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "CGROUP", tmp_path / "cgroup")
    monkeypatch.setattr(memory, "CGROUP_ROOT", tmp_path / "fs")
    return tmp_path


def limit(folder, names, limit_bytes, used_bytes, cached_bytes):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / names[0]).write_text(f"{limit_bytes}\n")
    (folder / names[1]).write_text(f"{used_bytes}\n")
    (folder / "memory.stat").write_text(f"anon 5\ninactive_file {cached_bytes}\n")


def test_without_limits_what_the_machine_has(machine):
    limit(machine / "fs" / "job_1" / "step_0", ("memory.max", "memory.current"), "max", 5, 0)
    assert memory.available_memory_bytes() == 16_000_000 * 1024


def test_the_limit_of_a_group_around_counts(machine):
    limit(machine / "fs" / "job_1" / "step_0", ("memory.max", "memory.current"), "max", 5, 0)
    limit(machine / "fs" / "job_1", ("memory.max", "memory.current"), 8_000, 5_000, 1_000)
    assert memory.available_memory_bytes() == 4_000


def test_version_1_groups(machine):
    (machine / "cgroup").write_text("5:cpu:/\n4:hugetlb,memory:/job_1\n0::/\n")
    names = ("memory.limit_in_bytes", "memory.usage_in_bytes")
    limit(machine / "fs" / "memory" / "job_1", names, 9_000, 2_000, 500)
    assert memory.available_memory_bytes() == 7_500


def test_used_up_is_zero_and_not_negative(machine):
    limit(machine / "fs" / "job_1", ("memory.max", "memory.current"), 8_000, 9_000, 0)
    assert memory.available_memory_bytes() == 0


def test_machines_without_these_files(machine, monkeypatch):
    for name in ("meminfo", "cgroup"):
        (machine / name).unlink()
    assert memory.available_memory_bytes() > 1e8
    monkeypatch.delattr(memory.os, "sysconf")
    assert memory.available_memory_bytes() == 8_000_000_000
