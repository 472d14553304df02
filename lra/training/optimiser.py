"""The optimiser's half of a step: one flat gradient, its clipping, AdamW at the step's rate, and the run's tallies.

Why one flat gradient: it is zeroed, clipped and averaged over processes in one operation each, however many parameters
a model has. Nothing here waits for the device, and with `static` nothing is passed from the host, so that `move` can be
captured as a CUDA graph.
"""

import warnings
from typing import Any

import torch
from torch import Tensor, nn

from lra.config.schema import Train
from lra.training.schedule import learning_rate, momentum


class FlatAdamW:
    """AdamW that moves the parameters by the gradient in `flat`.

    flat: (parameters + 1,) float32; every parameter's .grad in order, as views, and the batch's mean loss at the end,
    so that one all-reduce serves both. loss_sum: the sum of the losses since `reset_loss`. bad_step: the first step,
    counted from 1, whose loss was not finite; 0 while there is none.
    """

    def __init__(self, parameters: list[nn.Parameter], config: Train):
        self.config, self.parameters = config, parameters
        device = parameters[0].device
        self.flat = torch.zeros(sum(p.numel() for p in parameters) + 1, device=device)
        self.gradient, self.loss = self.flat[:-1], self.flat[-1]
        for parameter, part in zip(parameters, self.gradient.split([p.numel() for p in parameters]), strict=True):
            parameter.grad = part.view_as(parameter)
        self.loss_sum = torch.zeros((), device=device)
        self.bad_step = torch.zeros((), dtype=torch.int64, device=device)
        self.number = torch.zeros(1, dtype=torch.int64, device=device)  # steps done
        self.rates: Tensor | None = None  # the rate of every step, with `static`
        self.optimizer = torch.optim.AdamW(
            parameters,
            lr=config.lr,
            betas=(config.beta1, config.beta2),
            eps=config.eps,
            weight_decay=config.weight_decay,
            fused=device.type in ("cpu", "cuda"),
        )

    def set_static(self, static: bool) -> None:
        """Makes the rate a tensor that `move` sets, and creates AdamW's state; False makes the rate a number again."""
        group, device = self.optimizer.param_groups[0], self.flat.device
        group["lr"], group["capturable"] = 0.0, static and device.type == "cuda"
        if not static:
            self.rates = None
            return
        rates = [learning_rate(self.config, step) for step in range(self.config.steps)]
        self.rates = torch.tensor(rates, dtype=torch.float32, device=device)
        if not self.optimizer.state:
            self.flat.zero_()
            before = [parameter.detach().clone() for parameter in self.parameters]
            self._step()  # with rate 0 and gradient 0 nothing moves, unless eps is 0
            with torch.no_grad():
                for parameter, value in zip(self.parameters, before, strict=True):
                    parameter.copy_(value)
            for state in self.optimizer.state.values():
                state["step"].zero_()
        group["lr"] = torch.zeros((), device=device)

    def schedule(self, step: int) -> None:
        """Sets the rate and beta1 of step `step`, counted from 0; with `static`, `move` does so itself."""
        group = self.optimizer.param_groups[0]
        group["lr"] = learning_rate(self.config, step)
        group["betas"] = (momentum(self.config, step), self.config.beta2)

    def move(self) -> None:
        """Clips the gradient, moves the parameters and updates the tallies."""
        clip(self.gradient, self.config)
        if self.rates is not None:
            last = self.number.clamp(max=len(self.rates) - 1)
            self.optimizer.param_groups[0]["lr"].copy_(self.rates.index_select(0, last).squeeze(0))
        self._step()
        self.number += 1
        self.loss_sum += self.loss
        first_bad = (self.bad_step == 0) & ~self.loss.isfinite()
        self.bad_step.copy_(torch.where(first_bad, self.number[0], self.bad_step))

    def _step(self) -> None:
        """AdamW's step, without its warning about `capturable` while no graph is captured."""
        if not self.optimizer.param_groups[0]["capturable"]:
            self.optimizer.step()
            return
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "This instance was constructed with capturable=True")
            self.optimizer.step()

    def reset_loss(self) -> None:
        self.loss_sum.zero_()

    def tensors(self) -> list[Tensor]:
        """Every tensor that `move` or a backward pass changes."""
        states = [t for state in self.optimizer.state.values() for t in state.values()]
        return [self.flat, self.loss_sum, self.bad_step, self.number, *(p.data for p in self.parameters), *states]

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs; it is the same in every gear."""
        tallies = {"loss_sum": self.loss_sum, "bad_step": self.bad_step, "number": self.number}
        return {"optimizer": self.optimizer.state_dict()["state"], **tallies}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Call it before the first step: graphs hold on to the tensors that they were captured with."""
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": state["optimizer"], "param_groups": groups})
        for name in ("loss_sum", "bad_step", "number"):
            getattr(self, name).copy_(state[name])
        if self.rates is not None:
            self.set_static(True)


def clip(gradient: Tensor, config: Train) -> None:
    """Limits the flat gradient in place, by its norm (as clip_grad_norm_ does) or by value."""
    if config.clip == "norm":
        norm = torch.linalg.vector_norm(gradient)
        gradient.mul_((config.clip_at / (norm + 1e-6)).clamp(max=1.0))
    elif config.clip == "value":
        gradient.clamp_(-config.clip_at, config.clip_at)
