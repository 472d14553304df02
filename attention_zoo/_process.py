"""Settings and random numbers of the process, which all mechanisms share, restored after a user's code has run."""

from __future__ import annotations

import contextlib
import importlib
import random
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

NEW = "fp32_precision"  # torch 2.9's attribute in place of allow_tf32 and set_float32_matmul_precision
TF32 = ("the precision of convolutions", "the precision of recurrent networks")  # which a new process has
Setting = tuple[Callable[[], Any], Callable[[Any], Any]]


def settings() -> dict[str, Setting]:
    """Settings that change the result or the speed of every mechanism: name -> how to read it, how to set it."""
    import torch

    def flag(owner: Any, name: str) -> Setting:
        return (lambda: getattr(owner, name)), (lambda value: setattr(owner, name, value))

    def deterministic() -> tuple[bool, bool]:
        return torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()

    def set_deterministic(value: tuple[bool, bool]) -> None:
        torch.use_deterministic_algorithms(value[0], warn_only=value[1])

    def set_device(device: torch.device) -> None:
        torch.set_default_device(None if device == torch.device("cpu") else device)

    cuda, cudnn = torch.backends.cuda, torch.backends.cudnn
    return {
        "the default dtype": (torch.get_default_dtype, torch.set_default_dtype),
        "the default device": (torch.get_default_device, set_device),
        "the number of threads": (torch.get_num_threads, torch.set_num_threads),
        "deterministic algorithms": (deterministic, set_deterministic),
        "the precision of matrix products": (matmul_precision, set_matmul_precision),
        "whether gradients are computed": (torch.is_grad_enabled, torch.set_grad_enabled),
        "anomaly detection": (torch.is_anomaly_enabled, torch.autograd.set_detect_anomaly),
        **{f"cudnn.{name}": flag(cudnn, name) for name in ("enabled", "benchmark", "deterministic")},
        "the precision of convolutions": flag(
            *((cudnn.conv, NEW) if hasattr(cudnn, "conv") else (cudnn, "allow_tf32"))
        ),
        **({"the precision of recurrent networks": flag(cudnn.rnn, NEW)} if hasattr(cudnn, "rnn") else {}),
        "flash attention": (cuda.flash_sdp_enabled, cuda.enable_flash_sdp),
        "memory-efficient attention": (cuda.mem_efficient_sdp_enabled, cuda.enable_mem_efficient_sdp),
        "cudnn attention": (cuda.cudnn_sdp_enabled, cuda.enable_cudnn_sdp),
        "plain attention": (cuda.math_sdp_enabled, cuda.enable_math_sdp),
    }


def matmul_precision() -> tuple[str, ...]:
    """The precision of matrix products: by torch's old interface, then by the new one.

    The first is 'mixed' where the old interface raises an error, because the new one was used.
    """
    import torch

    try:
        old = torch.get_float32_matmul_precision()
    except RuntimeError:
        old = "mixed"
    new = (getattr(place.matmul, NEW, "ieee") for place in _with_matmul())
    return old, *("ieee" if value == "none" else value for value in new)


def set_matmul_precision(value: tuple[str, ...]) -> None:
    import torch

    old, *new = value
    for place, precision in zip(_with_matmul(), new, strict=True):
        setattr(place.matmul, NEW, precision)
    if old != "mixed":
        torch.set_float32_matmul_precision(old)


def _with_matmul() -> list[Any]:
    import torch

    places = (torch.backends.cuda, torch.backends.mkldnn)
    return [place for place in places if hasattr(getattr(place, "matmul", None), NEW)]


def look() -> dict[str, Any]:
    """The settings as they are now."""
    return {name: get() for name, (get, _) in settings().items()}


def changed(before: dict[str, Any]) -> list[str]:
    """The names of the settings that differ from those of `before`."""
    return [name for name, value in look().items() if value != before[name]]


def as_new(now: dict[str, Any]) -> dict[str, Any]:
    """The settings of `now`, changed to the values that a new process of this version of torch has.

    The number of threads stays.
    """
    import torch

    precision, on = "the precision of matrix products", ("flash", "memory-efficient", "cudnn", "plain")
    return now | {
        "the default dtype": torch.float32,
        "the default device": torch.device("cpu"),
        "deterministic algorithms": (False, False),
        precision: ("highest", *["ieee"] * (len(now[precision]) - 1)),
        "whether gradients are computed": True,
        "anomaly detection": False,
        "cudnn.enabled": True,
        "cudnn.benchmark": False,
        "cudnn.deterministic": False,
        **{name: "tf32" if isinstance(value, str) else True for name, value in now.items() if name in TF32},
        **{f"{kind} attention": True for kind in on},
    }


def restore(before: dict[str, Any]) -> None:
    for name in changed(before):
        settings()[name][1](before[name])


def generators() -> dict[str, tuple[Callable[[], Any], Callable[[Any], Any], Callable[[int], Any]]]:
    """The generators of random numbers besides torch's: name -> how to read the state, set it, and seed it."""
    found: dict[str, Any] = {"Python": (random.getstate, random.setstate, random.seed)}
    with contextlib.suppress(ImportError):
        numpy = importlib.import_module("numpy.random")  # torch works without it
        found["numpy"] = (lambda: numpy.get_state(legacy=False), numpy.set_state, numpy.seed)
    return found


@contextlib.contextmanager
def seeded(seed: int, others: int) -> Iterator[list[str]]:
    """Seeds torch on the CPU with `seed` and all other generators with `others`; restores all of them at the end.

    Yields a list that names, at the end, torch if it was seeded within, and the others that were seeded or drawn from.
    """
    import torch

    states, used = {name: get() for name, (get, _, _) in generators().items()}, []
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        for _, _, start in generators().values():
            start(others)
        starts = {name: str(get()) for name, (get, _, _) in generators().items()}
        try:
            yield used
        finally:
            used += ["torch's seed"] if torch.initial_seed() != seed else []
            for name, (get, put, _) in generators().items():
                used += [f"{name}'s random numbers"] if str(get()) != starts[name] else []
                put(states[name])


@contextlib.contextmanager
def kept(*, search: bool = True) -> Iterator[list[str]]:
    """Restores settings, random numbers, warnings and sys.path at the end, whatever happens within.

    Yields a list that names, at the end, what was changed. Random numbers start from a fixed seed, so that what is
    drawn within is the same in every process. search: whether sys.path is restored.
    """
    before, path, touched = look(), sys.path[:], []
    with warnings.catch_warnings(), seeded(0, 0) as used:
        try:
            yield touched
        finally:
            touched += changed(before)
            restore(before)
            if search and sys.path != path:
                touched += ["sys.path"]
                sys.path[:] = path
    touched += used


def taken_back(path: Path, touched: list[str], where: str) -> str:
    """The note for a user whose file changes the process. where: what to do instead, and at which place."""
    return (
        f"{path} changes {', '.join(touched)} when it is imported; this is taken back, because it would hold for every "
        f"other run of the process: {where}"
    )
