"""What each attention of an encoder is given on real samples: its input and the q, k, v of its `attend`.

Letters: N tokens, D width, H heads, K head width.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Call:
    """One call of `attend` on one sequence: x (N, D), q, k, v (1, H, N, K), keep (1, N) or None.

    layer: its number, '0'; of a layer that calls twice, '0.0' and '0.1'.
    """

    layer: str
    module: nn.Module
    x: Tensor
    q: Tensor
    k: Tensor
    v: Tensor
    keep: Tensor | None

    def attend(self, v: Tensor) -> Tensor:
        """The mechanism on other values, q and k unchanged."""
        return _attend(self.module)(self.q, self.k, v, self.keep)

    @property
    def local(self) -> Callable[[Tensor], Tensor] | None:
        """The convolution of v beside the mechanism, where there is one."""
        layer = getattr(self.module, "local", None)
        return None if layer is None else lambda v: layer(v, self.keep)

    @property
    def real(self) -> Tensor:
        """Positions of the real tokens."""
        return torch.arange(self.x.shape[0]) if self.keep is None else self.keep[0].nonzero()[:, 0]


@dataclass(frozen=True)
class Skipped:
    """A layer that cannot be looked into, and why."""

    layer: str
    reason: str


@dataclass
class _Tape:
    """Inputs and calls of one module during a forward pass."""

    module: nn.Module
    x: Tensor | None = None
    calls: list[tuple[Tensor, Tensor, Tensor, Tensor | None]] = field(default_factory=list)


@torch.no_grad()
def capture(model: nn.Module, ids: Tensor, keep: Tensor | None) -> list[Call | Skipped]:
    """Runs ids (1, N), keep (1, N) or None through `model.encode`; one entry per call of an `attend`, in order.

    The model has `blocks`, each with an `attention`. A layer without a single call of `attend` is Skipped.
    """
    found: list[Call | Skipped] = []
    layers = [block.get_submodule("attention") for block in model.get_submodule("blocks").children()]
    tapes = [[_Tape(part) for part in layer.modules() if callable(getattr(part, "attend", None))] for layer in layers]
    with _recording([tape for mine in tapes for tape in mine]):
        model.encode(ids, keep)  # pyright: ignore[reportCallIssue]
    for layer, (attention, mine) in enumerate(zip(layers, tapes, strict=True)):
        given = [(tape, call) for tape in mine for call in tape.calls if tape.x is not None]
        names = [f"{layer}.{i}" for i in range(len(given))] if len(given) > 1 else [str(layer)]
        calls = [
            Call(label, tape.module, tape.x[0], *call)
            for label, (tape, call) in zip(names, given, strict=False)
            if tape.x is not None
        ]
        odd = [c for c in calls if c.v.ndim != 4 or c.q.shape[-2] != c.v.shape[-2] or c.v.shape[-2] != len(c.x)]
        name = type(attention).__name__
        if not mine:
            found.append(Skipped(str(layer), f"{name} has no `attend`: there are no q, k, v to hold fixed"))
        elif not calls or odd:
            found.append(
                Skipped(str(layer), f"{name} does its work outside `attend`, or on other tokens than its input's")
            )
        else:
            found += calls
    return found


@contextmanager
def _recording(tapes: list[_Tape]) -> Iterator[None]:
    hooks = [tape.module.register_forward_pre_hook(_keep_input(tape), with_kwargs=True) for tape in tapes]
    for tape in tapes:
        object.__setattr__(tape.module, "attend", _keep_call(tape))
    try:
        yield
    finally:
        for hook, tape in zip(hooks, tapes, strict=True):
            hook.remove()
            object.__delattr__(tape.module, "attend")


def _keep_input(tape: _Tape) -> Callable[..., None]:
    def hook(_module: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> None:
        tape.x = given[0] if given else named["x"]

    return hook


def _keep_call(tape: _Tape) -> Callable[..., Tensor]:
    attend = _attend(tape.module)

    def record(q: Tensor, k: Tensor, v: Tensor, keep: Tensor | None = None) -> Tensor:
        tape.calls.append((q, k, v, keep))
        return attend(q, k, v, keep)

    return record


def _attend(module: nn.Module) -> Callable[..., Tensor]:
    return getattr(module, "attend")  # noqa: B009 - the type checker takes attributes of modules for tensors
