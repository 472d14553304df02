"""The facts about the machine that a record keeps: versions, device, peak memory."""

import contextlib
import ctypes
import gc
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy
import torch

from lra.results.checkout import commit

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def reset_peak(device: torch.device) -> None:
    """Starts a new measurement of peak memory, and first frees what an earlier run of this process left."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()  # else `graph_bytes` would count the pools of deleted graphs
        torch.cuda.reset_peak_memory_stats(device)
    elif CLEAR.exists():
        trim_heap()
        with contextlib.suppress(OSError):
            CLEAR.write_text("5")  # Linux: resets the peak resident size


def peak_bytes(device: torch.device, held: int | None = 0) -> int | None:
    """The largest number of bytes since `reset_peak`: allocated on a CUDA device, or resident in the process on Linux.

    None elsewhere. held: bytes in use when the measurement began (`held_bytes`); on CUDA the result is at least these
    bytes plus those that CUDA graphs keep (`graph_bytes`).
    """
    if device.type == "cuda":
        return max(torch.cuda.max_memory_allocated(device), (held or 0) + graph_bytes(device))
    if device.type == "cpu" and STATUS.exists():
        return _status_bytes("VmHWM")
    return None


def graph_bytes(device: torch.device) -> int:
    """Bytes in the pools of CUDA graphs that are kept for replays; the allocator does not count them as allocated."""
    segments = [s for s in torch.cuda.memory_snapshot() if s["device"] == (device.index or 0)]
    return sum(s["total_size"] - s["allocated_size"] for s in segments if tuple(s["segment_pool_id"]) != (0, 0))


def held_bytes(device: torch.device) -> int | None:
    """Bytes in use now: allocated on a CUDA device, or resident in the process on Linux; None elsewhere."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        return torch.cuda.memory_allocated(device)
    if device.type == "cpu" and STATUS.exists():
        trim_heap()
        return _status_bytes("VmRSS")
    return None


def trim_heap() -> None:
    """Returns to the system the freed memory that the C library (glibc) keeps, because it counts as resident."""
    with contextlib.suppress(OSError, AttributeError, TypeError):  # another C library, or Windows
        ctypes.CDLL(None).malloc_trim(0)


def _status_bytes(field: str) -> int:
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024


def environment(device: torch.device, gear: str = "eager") -> dict[str, Any]:
    """Versions, device, threads, gear and commit, as records keep them; none of it is part of a record's identity."""
    return {
        "lra": lra_version(),
        **commit(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "cuda": torch.version.cuda,
        "device": device.type,
        "device_name": torch.cuda.get_device_name(device) if device.type == "cuda" else cpu_name(),
        "platform": platform.platform(),
        "threads": torch.get_num_threads(),
        "processes": torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1,
        "gear": gear,
    }


def lra_version() -> str:
    try:
        return version("lra-suite")
    except PackageNotFoundError:
        return "not installed"


def cpu_name() -> str:
    """The processor's model name, from Linux; elsewhere its type or architecture."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
