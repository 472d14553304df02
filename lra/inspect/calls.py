"""Recorded calls: what each attention of an encoder receives on real samples, its input and the q, k, v of `attend`.

Letters: N tokens, D width, H heads, K head width.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
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
        """Apply the mechanism to other values, with q and k unchanged."""
        return _attend(self.module)(self.q, self.k, v, self.keep)

    @property
    def local(self) -> Callable[[Tensor], Tensor] | None:
        """The convolution of v beside the mechanism, if there is one."""
        layer = getattr(self.module, "local", None)
        return None if layer is None else lambda v: layer(v, self.keep)

    @cached_property
    @torch.no_grad()
    def has_queries(self) -> bool:
        """Does the mechanism use queries and keys? Some receive v in place of q; some ignore both."""
        if torch.equal(self.q, self.v):
            return False
        reversed_order = _attend(self.module)(self.q.flip(2), self.k.flip(2), self.v, self.keep)
        return not torch.equal(reversed_order, self.attend(self.v))

    @property
    def real(self) -> Tensor:
        """The positions of the real tokens."""
        return torch.arange(self.x.shape[0]) if self.keep is None else self.keep[0].nonzero()[:, 0]


@dataclass(frozen=True)
class Skipped:
    """A layer that cannot be inspected, and why."""

    layer: str
    reason: str


@dataclass
class Recorder:
    """Records the calls of one module during a forward pass: x of the module, then what its `attend` receives."""

    module: nn.Module
    x: Tensor | None = None  # of the current pass through the module
    calls: list[tuple[Tensor, Tensor, Tensor, Tensor, Tensor | None]] = field(default_factory=list)


@torch.no_grad()
def record_calls(model: nn.Module, ids: Tensor, keep: Tensor | None) -> list[Call | Skipped]:
    """Run ids (1, N), keep (1, N) or None through `model.encode`; return one entry per call of an `attend`, in order.

    The model lists its `attentions()`; one that it lists several times is one layer. A layer that never calls an
    `attend` is Skipped.
    """
    entries: list[Call | Skipped] = []
    layers: list[nn.Module] = list(dict.fromkeys(model.attentions()))  # pyright: ignore[reportCallIssue]
    recorders = [
        [Recorder(part) for part in layer.modules() if callable(getattr(part, "attend", None))] for layer in layers
    ]
    with _recording([recorder for group in recorders for recorder in group]):
        model.encode(ids, keep)  # pyright: ignore[reportCallIssue]
    for layer, (attention, group) in enumerate(zip(layers, recorders, strict=True)):
        received = [(recorder.module, call) for recorder in group for call in recorder.calls]
        names = [f"{layer}.{i}" for i in range(len(received))] if len(received) > 1 else [str(layer)]
        calls = [
            Call(label, module, x[0], q, k, v, given)
            for label, (module, (x, q, k, v, given)) in zip(names, received, strict=False)
        ]
        odd = [c for c in calls if c.v.ndim != 4 or c.q.shape[-2] != c.v.shape[-2] or c.v.shape[-2] != len(c.x)]
        name = type(attention).__name__
        if not group:
            entries.append(Skipped(str(layer), f"{name} has no `attend`: there are no q, k, v to hold fixed"))
        elif not calls or odd:
            entries.append(
                Skipped(str(layer), f"{name} does its work outside `attend`, or on other tokens than its input's")
            )
        else:
            entries += calls
    return entries


@contextmanager
def _recording(recorders: list[Recorder]) -> Iterator[None]:
    hooks = [each.module.register_forward_pre_hook(_keep_input(each), with_kwargs=True) for each in recorders]
    for recorder in recorders:
        object.__setattr__(recorder.module, "attend", _keep_call(recorder))
    try:
        yield
    finally:
        for hook, recorder in zip(hooks, recorders, strict=True):
            hook.remove()
            object.__delattr__(recorder.module, "attend")


def _keep_input(recorder: Recorder) -> Callable[..., None]:
    def hook(_module: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> None:
        recorder.x = given[0] if given else named["x"]

    return hook


def _keep_call(recorder: Recorder) -> Callable[..., Tensor]:
    attend = _attend(recorder.module)

    def record(q: Tensor, k: Tensor, v: Tensor, keep: Tensor | None = None) -> Tensor:
        if recorder.x is not None:
            recorder.calls.append((recorder.x, q, k, v, keep))
        return attend(q, k, v, keep)

    return record


def _attend(module: nn.Module) -> Callable[..., Tensor]:
    return getattr(module, "attend")  # noqa: B009 - the type checker takes attributes of modules for tensors
