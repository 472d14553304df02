"""Chooses, announces and tries the gear of a run, and changes to a slower gear when it fails.

Gears are ways to execute a step: `eager`, `compiled`, and `captured` as CUDA graphs. All give the same gradients, up to
rounding; only the draws of dropout may differ.
"""

from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.parameter import is_lazy

from lra.config.schema import Train
from lra.console import say
from lra.errors import first_line
from lra.training.batches import Samples
from lra.training.buffers import Buffers
from lra.training.captured import Captured, CaptureError, Recorder
from lra.training.compiled import Compiled, RecompileError
from lra.training.device import Device, Padding, lacks_gpu_memory
from lra.training.eager import Eager
from lra.training.loading import load
from lra.training.optimiser import FlatAdamW

# Work after which the compiler's time is earned back. On CUDA a small step is launch-bound, so compile time is weighed
# against the number of steps: about a minute to compile, about 15 ms saved per step. On a CPU it is weighed against the
# padded tokens: up to a minute to compile, a quarter of each step saved.
EARNED_STEPS = 4_000
EARNED_TOKENS = 100_000_000
# On a CPU the run begins in the eager gear while the compiler works beside it, and changes to the compiled gear after
# this many padded tokens, a minute or two. The step of the change does not depend on how fast the compiler is, so the
# bits of a run do not, either.
SHIFT_TOKENS = 16_000_000

SLOWER = {"captured": ("compiled", "eager"), "compiled": ("eager",)}  # what a run may fall back to
COMBINED = "combined kernels"  # how `cause` begins when they have failed


def choose_gear(config: Train, kind: str, length: int) -> tuple[str, str]:
    """The gear to start with, and the reason if it is not the one that was asked for.

    auto: if the run is long enough to earn the compiler's time back, captured on CUDA and compiled on a CPU; otherwise,
    and for bit-equal runs, eager. kind: of the device. length: of the longest sequence.
    """
    wanted = config.gear
    if wanted == "auto":
        long = {"cuda": config.steps >= EARNED_STEPS, "cpu": config.steps * config.batch * length >= EARNED_TOKENS}
        fast = long.get(kind, False) and not config.deterministic
        wanted = ("captured" if kind == "cuda" else "compiled") if fast else "eager"
    if wanted == "captured" and kind != "cuda":
        return "compiled", "CUDA graphs need a CUDA device"
    if wanted == "captured" and config.cycle_beta1:
        return "compiled", "train.cycle_beta1 changes what a CUDA graph holds as a constant"
    return wanted, ""


def shift_step(config: Train, gear: str, kind: str, length: int) -> int:
    """The step from which a run on a CPU that begins in the eager gear goes on in `gear`; 0 if it begins there."""
    if config.gear != "auto" or gear != "compiled" or kind != "cpu":
        return 0
    return -(-SHIFT_TOKENS // (config.batch * length))


class LateError(ValueError):
    """A part of the model is made on the first forward pass, too late for the optimiser and for checkpoints."""

    def __init__(self, names: list[str]):
        super().__init__(
            f"{', '.join(names)}: made on the first forward pass, so it would never be trained; make it in __init__"
        )


class GearBox:
    """Holds the gear in use. cause: why it is not the one that was asked for; empty if it is.

    recorder: stands in for CUDA graphs, in tests.
    """

    def __init__(
        self, model: nn.Module, config: Train, device: Device, padding: Padding, recorder: Recorder | None = None
    ):
        if lazy := [name for name, parameter in model.named_parameters() if is_lazy(parameter)]:
            raise LateError(lazy)
        self.model, self.device, self.padding = model, device, padding
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.names = set(model.state_dict())
        self.optimiser = FlatAdamW(self.parameters, config)
        self.rounded = False  # were lengths rounded when the checkpoint was saved?
        self.updated_buffers: set[str] | None = None  # buffers that training updates; None before the dry run
        wanted, self.cause = ("captured", "") if recorder else choose_gear(config, device.kind, padding.length)
        self.shift_at = shift_step(config, wanted, device.kind, padding.length)  # step from which it is compiled, or 0
        if wanted == "captured":
            self.gear: Eager = Captured(model, device, padding, self.optimiser, config.batch, recorder)
        else:
            self.gear = (Compiled if wanted == "compiled" and not self.shift_at else Eager)(model, device, padding)
        if self.cause:
            say(f"gear {self.gear.name}: {self.cause}")
        elif self.gear.name != "eager":
            say(f"gear {self.gear.name}: the first step waits for the compiler; train.gear=eager starts at once")
        elif self.shift_at:
            say(f"gear eager until step {self.shift_at}, then {wanted}, which is prepared meanwhile")

    @property
    def name(self) -> str:
        """The gear in use, for the record, with the cause if it is not the one that was asked for."""
        return f"{self.gear.name} ({self.cause})" if self.cause else self.gear.name

    def state(self) -> dict[str, Any]:
        """What a resumed run needs to compute the same bits: the gear it fell back to, and if lengths are rounded."""
        rounded = self.rounded or getattr(self.gear, "rounded", False)
        return {"device": self.device.kind, "name": self.gear.name, "cause": self.cause, "rounded": rounded}

    def restore(self, state: dict[str, Any]) -> None:
        """Falls back, and rounds lengths, as the run had when its checkpoint was saved on the same kind of device."""
        if state.get("device") != self.device.kind:
            return
        name, cause = str(state["name"]), str(state["cause"])
        if cause and name in SLOWER.get("compiled" if self.shift_at else self.gear.name, ()):
            self.shift_at, self.cause = 0, cause
            self.take(Compiled if name == "compiled" else Eager)
            say(f"gear {self.gear.name}, as when the checkpoint was saved: {cause}")
        if cause.startswith(COMBINED) and isinstance(self.gear, Compiled) and self.gear.combined:
            self.cause = cause
            self.gear.separate()
        self.rounded = bool(state.get("rounded"))
        self.round_lengths()

    def take(self, kind: type[Eager]) -> None:
        """Changes to a gear of this kind."""
        if isinstance(self.gear, Captured):
            self.optimiser.set_static(False)
        seconds = self.gear.compile_seconds
        self.gear = kind(self.model, self.device, self.padding)
        self.gear.compile_seconds = seconds

    def round_lengths(self) -> None:
        """Rounds lengths in the gear in use, if they were rounded when the checkpoint was saved."""
        if self.rounded and isinstance(self.gear, Compiled):
            self.gear.rounded = True

    @torch.no_grad()
    def try_model(self, samples: Samples, rows: np.ndarray) -> set[str]:
        """Whatever the gear, runs two samples eagerly before the first step. Restores and returns `updated_buffers`.

        A bug in the model then raises its own error instead of a compiler error, and causes no silent fallback.
        Raises LateError.
        """
        self.model.train()
        buffers = Buffers(self.model)
        ids, keep, _ = load(samples, rows[:2], self.padding, self.device.torch_device)
        with self.device.autocast():
            self.model(ids, keep)
        self.check_parameters()
        self.updated_buffers = buffers.changed()
        buffers.restore()
        return self.updated_buffers

    def check_parameters(self) -> None:
        """Raises LateError if the model has parameters or buffers that it had not when the optimiser was made."""
        held = {id(parameter) for parameter in self.parameters}
        late = [name for name, p in self.model.named_parameters() if p.requires_grad and id(p) not in held]
        late += [name for name in self.model.state_dict() if name not in self.names and name not in late]
        if late:
            raise LateError(late)

    def buffers(self) -> Buffers | None:
        """Copies of the buffers, to restore before a slower gear repeats the batch; None if there is no slower gear."""
        return Buffers(self.model, self.updated_buffers) if self.gear.name != "eager" and self.updated_buffers else None

    def fall_back(self, error: Exception) -> None:
        """Changes to a slower gear and prints why; raises the error if there is no slower gear.

        If only the capture fails, or graphs leave too little memory, the run goes on compiled. If the compiler fails,
        or compiles again and again, the run goes on eagerly; a compiler that failed with combined kernels is first
        tried without them.
        """
        gear = self.gear
        memory = lacks_gpu_memory(error)
        if gear.name == "eager" or (memory and gear.name != "captured"):
            raise error
        what = gear.name
        graph = memory or isinstance(error, CaptureError)
        final = graph or isinstance(error, RecompileError)
        if isinstance(gear, Compiled) and gear.combined and not final:
            what = COMBINED
            gear.separate()
        else:
            self.take(Compiled if graph else Eager)
        self.cause = f"{what} failed: {type(error).__name__}: {first_line(error)}"[:200]
        say(f"gear {self.gear.name}: {self.cause}")

    def shift_up(self, refused: str = "") -> None:
        """Changes from the eager to the compiled gear. refused: why the compiler made no code; the run stays eager."""
        self.shift_at = 0
        if refused:
            self.cause = f"compiled failed: {refused}"[:200]
            say(f"gear eager: {self.cause}")
        else:
            self.take(Compiled)
            self.round_lengths()

    def prepare(self, samples: Samples, rows: np.ndarray) -> None:
        """Lets the gear compile, or a slower one if it fails, and restores the buffers."""
        buffers = Buffers(self.model)
        try:
            self.gear.prepare(samples, rows)
        except Exception as error:
            self.fall_back(error)
            self.prepare(samples, rows)
        finally:
            buffers.restore()

    def take_compile_seconds(self) -> float:
        """Seconds spent on compiling since the last call."""
        seconds, self.gear.compile_seconds = self.gear.compile_seconds, 0.0
        return seconds
