"""The device a run computes on, its precision, and determinism."""

import contextlib
import os
from dataclasses import dataclass

import torch

from lra.errors import ConfigError

KINDS = ("cpu", "cuda", "mps")  # of devices
MEMORY_WORDS = ("out of memory", "can't allocate memory", "not enough memory", "alloc_cpu")

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
WITH_BFLOAT16 = (8, 0)  # the first compute capability that has it, Ampere's; older GPUs emulate it, slowly


@dataclass(frozen=True)
class Device:
    """A torch device, and the precision in which models run on it: float32, or bfloat16 autocast."""

    torch_device: torch.device
    precision: str = "float32"

    @property
    def kind(self) -> str:
        """cpu, cuda or mps."""
        return self.torch_device.type

    def autocast(self) -> contextlib.AbstractContextManager:
        enabled = self.precision != "float32"
        return torch.autocast(self.kind, dtype=PRECISIONS[self.precision], enabled=enabled)


@dataclass(frozen=True)
class Padding:
    """How stored values become ids of equal length.

    length: of the longest sequence. to_full_length: pad every micro-batch to it, for mechanisms that cannot mask.
    padded: sequences differ in length, so ids are values + 1 and 0 is the padding; otherwise ids are the values.
    zero_is_padding: the quirk that masks every value 0, wherever it occurs.
    """

    length: int = 0
    to_full_length: bool = False
    padded: bool = True
    zero_is_padding: bool = False

    @property
    def lengths_vary(self) -> bool:
        """Do micro-batches differ in length?"""
        return self.padded and not self.to_full_length


def choose_device(name: str) -> torch.device:
    """auto: CUDA, else MPS, else the CPU; a GPU gets its number. Raises ConfigError for a device that is missing."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
        if device == torch.device("cuda"):
            device = torch.device("cuda", torch.cuda.current_device())
        torch.empty(0, device=device)
        if device.type not in KINDS:
            raise RuntimeError(f"{device.type} is none of {', '.join(KINDS)}")
    except (RuntimeError, AssertionError) as error:
        names = devices()
        why = f": {str(error).splitlines()[0]}" if name in (*names, "cuda") and len(names) > 1 else ""
        raise ConfigError(f"device {name!r} cannot be used here{why or '; there are: ' + ', '.join(names)}") from error
    return device


def lost(device: torch.device) -> bool:
    """Has a kernel's error, such as a wrong index, ended this process's use of the GPU? CUDA cannot recover from it."""
    try:
        synchronise(device)
    except RuntimeError:
        return True
    return False


def lacks_gpu_memory(error: Exception) -> bool:
    """Does the error say that a GPU's memory ran out? cuBLAS says so of its own workspace, in words alone."""
    return isinstance(error, torch.OutOfMemoryError) or "CUBLAS_STATUS_ALLOC_FAILED" in str(error)


def lacks_memory(error: Exception) -> bool:
    """Does the error say that memory ran out, of a GPU or of the machine? An illegal access to memory does not."""
    words = str(error)
    return isinstance(error, MemoryError) or lacks_gpu_memory(error) or any(some in words for some in MEMORY_WORDS)


def synchronise(device: torch.device) -> None:
    """Waits until the device has done what it was given to do."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def devices() -> list[str]:
    """Names of the devices that this machine has."""
    cards = [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    return ["cpu", *cards, *(["mps"] if torch.backends.mps.is_available() else [])]


def choose_precision(wanted: str, device: torch.device, here: bool = True) -> str:
    """auto: bfloat16 autocast on a CUDA GPU that computes in it, float32 elsewhere. Allocates nothing on a GPU.

    here: whether the GPU is of this machine. Those of a cluster's nodes are expected to compute in bfloat16.
    """
    if wanted != "auto":
        return wanted
    if device.type != "cuda":
        return "float32"
    native = not here or torch.cuda.get_device_capability(device) >= WITH_BFLOAT16
    return "bfloat16" if native else "float32"


def set_backends(deterministic: bool) -> None:
    """Chooses bit-equal runs on CUDA, where operations without a deterministic form raise, or PyTorch's fast default.

    cuDNN's attention is never used, though PyTorch prefers it on an H100: it plans anew for every shape, which takes
    half a second or more, and micro-batches have hundreds of shapes; with a mask its backward pass can give NaN
    (pytorch issue 196678).
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when CUDA starts
    torch.use_deterministic_algorithms(deterministic)
    torch.backends.cuda.enable_cudnn_sdp(False)
    torch.backends.cuda.enable_mem_efficient_sdp(not deterministic)  # its backward pass is not deterministic
