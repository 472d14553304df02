"""The free cores and the free memory of this machine that a run may use."""

from __future__ import annotations

import contextlib
import functools
import os
import time
from pathlib import Path

STAT, CPUS = Path("/proc/stat"), Path("/sys/devices/system/cpu")


def threads_per_process() -> int:
    """OMP_NUM_THREADS, or one: two processes of one thread are nearly twice as fast as one process of two threads."""
    text = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    return max(1, int(text)) if text.isdecimal() else 1


def usable_cores() -> int:
    """How many of the cores that this process may use are idle now, but at least one."""
    numbers = affinity()
    idle = len(numbers) - round(busy_cores(numbers))
    return max(1, min(own_cores(), idle))


def own_cores() -> int:
    """How many cores this process may use.

    Hyper-threads of one core count once. Cores that `taskset` or a job scheduler withholds do not count, nor does what
    a container's quota withholds.
    """
    from loky.backend.context import cpu_count  # knows affinity, quotas of both kinds of cgroups, macOS and Windows

    return max(1, min(cpu_count(only_physical_cores=True), physical_cores(affinity())))


def crowding(processes: int) -> float:
    """The factor by which one more process slows down these, all sharing this process's processors evenly."""
    return max(1.0, (processes + 1) / max(processes, len(affinity())))


def affinity() -> frozenset[int]:
    """The processors that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return frozenset(os.sched_getaffinity(0))
    return frozenset(range(os.cpu_count() or 1))


@functools.cache
def physical_cores(numbers: frozenset[int]) -> int:
    """How many cores these processors belong to; where the system does not say, each counts as one."""
    siblings = set()
    for number in numbers:
        try:
            siblings.add((CPUS / f"cpu{number}" / "topology" / "thread_siblings_list").read_text())
        except OSError:
            siblings.add(str(number))
    return len(siblings)


def busy_cores(numbers: frozenset[int] | None = None, seconds: float = 0.5) -> float:
    """How many of these processors, by default of all, are busy, sampled from /proc/stat over `seconds`.

    Where there is no /proc/stat, the load average of the last minute.
    """

    def ticks() -> tuple[int, int, int]:
        total = idle = count = 0
        for line in STAT.read_text().splitlines():
            name, *words = line.split()
            number = name.removeprefix("cpu")
            if number.isdecimal() and name != number and (numbers is None or int(number) in numbers):
                spent = [int(word) for word in words[:8]]
                total, idle, count = total + sum(spent), idle + spent[3] + spent[4], count + 1
        return total, idle, count

    try:
        total, idle, count = ticks()
        time.sleep(seconds)
        later, later_idle, _ = ticks()
    except (OSError, ValueError, IndexError):
        return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    return count * (1 - (later_idle - idle) / max(1, later - total))


def free_bytes() -> int:
    """Bytes that a new process may take on the machine, or in this container if that is less; 0 if unknown."""
    limits = []
    with contextlib.suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text().splitlines()
        limits.append(int(next(line for line in lines if line.startswith("MemAvailable")).split()[1]) * 1024)
    with contextlib.suppress(OSError, ValueError):
        group = Path("/sys/fs/cgroup")
        used = int((group / "memory.current").read_text())
        lines = (group / "memory.stat").read_text().splitlines()
        files = sum(
            int(line.split()[1]) for line in lines if line.startswith("inactive_file ")
        )  # cached files, which the system drops when memory runs short
        limits.append(int((group / "memory.max").read_text()) - used + files)
    return max(0, min(limits, default=0))
