"""Is a measurement alone? A lock against a second bench on the device, and a look at who else is at work."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from lra.console import say
from lra.errors import BusyError, RecordError

IDLE_CORES = 0.25  # others' work, in cores, that a measurement tolerates


@contextlib.contextmanager
def device_lock(device: str) -> Iterator[None]:
    """Keeps a second bench of this user off the device. Raises BusyError."""
    from lra.training.device import choose_device
    from lra.training.run_folder import RunFolder

    name = str(choose_device(device)).replace(":", "")
    user = os.getuid() if hasattr(os, "getuid") else "user"
    folder = Path(tempfile.gettempdir()) / f"lra-bench-{user}-{name}"
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(RunFolder(folder).lock())
        except BusyError:
            raise BusyError(f"another bench is measuring on {name}: wait for it, or choose another --device") from None
        except OSError as error:
            raise RecordError(f"cannot write the lock {folder}: {error.strerror}") from error
        yield


def alone_on(device: str) -> bool:
    """Is the device idle? Says so when it is not: times then measure the neighbours, too."""
    from lra.training.device import choose_device

    busy = busy_cores()
    words = [f"{busy:.1f} cores are busy"] if busy > IDLE_CORES else []
    if choose_device(device).type == "cuda" and (others := gpu_processes()):
        words.append(f"{others} other process{'es' if others > 1 else ''} on the GPU")
    if words:
        say(f"not alone on this machine ({', '.join(words)}): times will be too long")
    return not words


def busy_cores(seconds: float = 0.5) -> float:
    """Cores at work now, by /proc/stat over so many seconds; elsewhere the load average of a minute."""

    def ticks() -> tuple[int, int]:
        numbers = [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
        return sum(numbers), numbers[3] + numbers[4]

    try:
        total, idle = ticks()
        time.sleep(seconds)
        later, later_idle = ticks()
    except (OSError, ValueError, IndexError):
        return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    share = 1 - (later_idle - idle) / max(1, later - total)
    return share * (os.cpu_count() or 1)


def gpu_processes() -> int:
    """Processes that compute on NVIDIA GPUs here, by nvidia-smi; 0 where it cannot tell."""
    command = ["nvidia-smi", "--query-compute-apps=pid", "--format=csv,noheader"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.split()
    except (OSError, subprocess.SubprocessError):
        return 0
    return len(set(found) - {str(os.getpid())})


def free_bytes() -> int:
    """Memory a new process may take: what is available, or what is left to this container; 0 where nothing tells."""
    left = []
    with contextlib.suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text().splitlines()
        left.append(int(next(line for line in lines if line.startswith("MemAvailable")).split()[1]) * 1024)
    with contextlib.suppress(OSError, ValueError):
        group = Path("/sys/fs/cgroup")
        used = int((group / "memory.current").read_text())
        lines = (group / "memory.stat").read_text().splitlines()
        files = sum(int(line.split()[1]) for line in lines if line.startswith("inactive_file "))  # given back at need
        left.append(int((group / "memory.max").read_text()) - used + files)
    return max(0, min(left, default=0))
