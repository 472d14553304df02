"""Keeps a second bench off the device, and finds out whether the machine is idle."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from lra.console import say
from lra.errors import BusyError
from lra.results.locks import locked
from lra.training.cores import busy_cores

if TYPE_CHECKING:
    import torch

IDLE_CORES = 0.25  # busy cores that a measurement tolerates


@contextlib.contextmanager
def device_lock(device: torch.device) -> Iterator[None]:
    """Keeps a second bench of this user off the device. Raises BusyError, or WorkError if it cannot write the lock."""
    name = str(device).replace(":", "")
    user = os.getuid() if hasattr(os, "getuid") else "user"
    folder = Path(tempfile.gettempdir()) / f"lra-bench-{user}-{name}"
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(locked(folder / "lock"))
        except BusyError:
            raise BusyError(f"another bench is measuring on {name}: wait for it, or choose another --device") from None
        yield


def alone_on(device: torch.device) -> bool:
    """Is the machine idle, and no other process on the GPU? If not, prints that the times will be too long."""
    busy = busy_cores()
    words = [f"{busy:.1f} cores are busy"] if busy > IDLE_CORES else []
    if device.type == "cuda" and (others := gpu_processes(device)):
        words.append(f"{others} other process{'es' if others > 1 else ''} on the GPU")
    if words:
        say(f"the machine is not idle ({', '.join(words)}): times will be too long")
    return not words


def gpu_processes(device: torch.device) -> int:
    """How many other processes compute on this NVIDIA GPU, according to nvidia-smi; 0 if nvidia-smi fails.

    Processes on all GPUs of the machine count if torch does not know the UUID of this one.
    """
    import torch

    uuid = str(getattr(torch.cuda.get_device_properties(device), "uuid", ""))
    command = ["nvidia-smi", "--query-compute-apps=gpu_uuid,pid", "--format=csv,noheader"]
    try:
        lines = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.splitlines()
    except (OSError, subprocess.SubprocessError):
        return 0
    pids = {line.rpartition(",")[2].strip() for line in lines if uuid in line}
    return len(pids - {str(os.getpid())})
