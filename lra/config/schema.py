"""Every key of the configuration, with its type, its default and its range.

The sections `model` and `train` are the suite's; `data` is the settings dataclass of the task. The comment beside a
field, or above it, is what docs/settings.md says of the key (`descriptions` reads it). A field whose comment begins
with "quirk" reproduces a historic fault of an earlier suite and is off by default.
"""

import functools
import math
from dataclasses import dataclass, field, fields, make_dataclass, replace
from typing import Any, Literal

from lra.errors import ConfigError

MOST_PARAMETERS = 2**33  # 32 GB in float32, without gradients and AdamW's two means
MOST_STEPS = 10**12
EVALUATIONS = 10  # evaluations in a pretraining


def check_range(section: Any, name: str, least: float, most: float, *keys: str, below: bool = False) -> None:
    """Raises ConfigError for a value outside `least` to `most`; with `below`, `most` itself is outside, too."""
    for key in keys:
        value = getattr(section, key)
        if not least <= value <= most or value == math.inf or (below and value == most):
            between = f"{least} to{' below' * below} {most}"
            if value < least and most > 1:
                between = f"at least {least}"
            elif most > 1:
                between = f"at least {least} and finite" if most == math.inf else f"at most {most:,}"
            raise ConfigError(f"{name}.{key} must be {between}, not {value}")


@dataclass(frozen=True, kw_only=True)
class Model:
    """The model around the attention. A size of 0 means the size that the task gives."""

    layers: int  # blocks of the model, each with an attention and an MLP
    dim: int  # width of the model: features of each token
    heads: int  # heads of each attention, which divide its width among them
    mlp: int  # hidden width of the block's MLP
    head: int  # hidden width of the classifier
    dropout: float  # share of values set to 0 after the embedding, after the attention and in the MLP
    attention_dropout: float = 0.0  # share of attention weights set to 0, in mechanisms that have such weights
    # position encoding: a learned table, fixed sinusoids, rotary (queries and keys are rotated), or none
    positions: Literal["learned", "sincos", "rope", "none"] = "learned"
    embedding_std: float = 0.02  # standard deviation of the initial embeddings
    vocab: int = 0  # rows of the embedding; 0: as many as the task has ids
    # tokens of the longest sequence, for the position table, mechanisms of a fixed length and `pool_over_padding`; 0:
    # the task's
    length: int = 0
    # what the classifier reads: the mean of the real tokens, a learned token in front, or the first token
    pool: Literal["mean", "cls", "first"] = "mean"
    grid: bool = False  # let mechanisms see an image as rows and columns; LRA's rule is a flat sequence of pixels
    zero_is_padding: bool = False  # quirk: mask every id 0 as padding, black pixels too
    pool_over_padding: bool = False  # quirk: the mean divides by the padded length, not by the number of real tokens
    backbone: str = "flat"  # a name from `list`, or a file; each may add keys of its own to this section

    def __post_init__(self):
        check_range(self, "model", 1, 1024, "layers", "heads")
        check_range(self, "model", 1, 2**20, "dim", "mlp", "head")
        check_range(self, "model", 0, 2**30, "vocab", "length")
        check_range(self, "model", 0, math.inf, "embedding_std")
        about = self.layers * self.dim * (4 * self.dim + 2 * self.mlp) + self.dim * (self.vocab + self.length)
        if about > MOST_PARAMETERS:
            raise ConfigError(
                f"model.layers, dim, mlp, vocab and length make about {about:,} parameters; at most "
                f"{MOST_PARAMETERS:,} are possible"
            )
        check_range(self, "model", 0, 1, "dropout", "attention_dropout", below=True)


Keys = dict[str, tuple[Any, Any]]  # name -> type, default


def model_with(keys: Keys) -> type[Model]:
    """The section `model` with a backbone's keys added. Raises ConfigError for a key that the section has already."""
    if not keys:
        return Model
    if taken := [field.name for field in fields(Model) if field.name in keys]:
        raise ConfigError(f"model.{taken[0]} is a key of every backbone: give this backbone's key another name")
    return _model_with(tuple((name, kind, default) for name, (kind, default) in keys.items()))


@functools.cache
def _model_with(keys: tuple[tuple[str, Any, Any], ...]) -> type[Model]:
    def pickled(model: Model) -> tuple[Any, ...]:
        return _remake, (keys, {f.name: getattr(model, f.name) for f in fields(model)})

    added = [(name, kind, field(default=default)) for name, kind, default in keys]
    return make_dataclass("Model", added, bases=(Model,), namespace={"__reduce__": pickled}, frozen=True, kw_only=True)


def _remake(keys: tuple[tuple[str, Any, Any], ...], values: dict[str, Any]) -> Model:
    return _model_with(keys)(**values)


@dataclass(frozen=True, kw_only=True)
class Train:
    """The optimiser (AdamW), its schedule and the choice of a checkpoint."""

    steps: int  # updates of the weights
    batch: int  # samples in a step
    lr: float  # the peak of the learning rate, reached after `warmup` steps; with rsqrt the factor
    # steps in which the learning rate rises; scaled down where `--set` lowers `train.steps` alone (not with rsqrt)
    warmup: int
    evaluate_every: int  # steps from one evaluation on the validation split to the next
    # linear: up to lr, then down; cosine: up to lr, then half a cosine; rsqrt: lr * min(1, t / W) / sqrt(max(t, W)) at
    # step t, with a warm-up of W steps
    schedule: Literal["linear", "cosine", "rsqrt"] = "linear"
    start_lr: float = 0.0  # the learning rate at the first step, as a fraction of the peak
    end_lr: float = 0.0  # the learning rate at the last step, as a fraction of the peak
    beta1: float = 0.9  # decay of AdamW's mean of gradients
    beta2: float = 0.999  # decay of AdamW's mean of squared gradients
    eps: float = 1e-6  # AdamW's epsilon, added to the denominator
    weight_decay: float = 0.0  # AdamW's weight decay, of every parameter
    cycle_beta1: bool = False  # quirk: beta1 as OneCycleLR cycles it: from 0.95 to 0.85 at the peak and back
    clip: Literal["norm", "value", "none"] = "norm"  # cut the gradient to a norm, cut each of its values, or neither
    clip_at: float = 1.0  # the norm, or the absolute value, to which `clip` cuts
    validation_batches: int = 0  # quirk: batches of an evaluation, from an endless, reshuffled loader; 0: all, once
    drop_last: bool = False  # quirk: leave out the last, incomplete batch of validation and test
    select: Literal["best", "last"] = "best"  # the checkpoint that is tested: best on validation, or the last
    # quirk: before this fraction of the steps, an accuracy may count as the best so far, but its weights are not kept
    select_after: float = 0.0
    # auto: bfloat16 autocast on CUDA GPUs that compute in it (compute capability 8.0 or more), else float32
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    deterministic: bool = False  # bit-equal runs on CUDA, too, where this is slower
    # how a step is executed, not what it computes: as written, compiled, or captured as CUDA graphs; auto: the fastest
    # that is worth its start
    gear: Literal["auto", "eager", "compiled", "captured"] = "auto"
    # masked: before the training, the encoder learns to predict masked inputs of the training split
    pretrain: Literal["none", "masked"] = "none"
    pretrain_share: float = 0.15  # share of a sequence's real tokens that is masked
    pretrain_steps: int = 0  # steps of the pretraining; 0: as many as the training has
    pretrain_batch: int = 0  # samples in a step of the pretraining; 0: as many as in the training
    pretrain_lr: float = 0.0  # the peak of the pretraining's learning rate; 0: that of the training
    pretrain_warmup: int = 0  # steps in which the pretraining's rate rises; 0: the same share of steps as in training

    def __post_init__(self):
        check_range(self, "train", 1, MOST_STEPS, "steps", "evaluate_every")
        check_range(self, "train", 1, 2**20, "batch")
        check_range(self, "train", 0, MOST_STEPS, "warmup")
        # with rsqrt a run may end inside its warm-up, as Google's Retrieval does
        if self.schedule != "rsqrt" and self.warmup > self.steps:
            raise ConfigError(f"train.warmup={self.warmup} must not exceed train.steps={self.steps}: set both")
        check_range(self, "train", 0, math.inf, "lr", "eps", "weight_decay", "clip_at")
        check_range(self, "train", 0, 2**30, "validation_batches")
        check_range(self, "train", 0, 1, "start_lr", "end_lr", "select_after")
        check_range(self, "train", 0, 1, "beta1", "beta2", below=True)
        if self.clip != "none" and self.clip_at == 0:
            raise ConfigError("train.clip_at=0 would set every gradient to 0; train.clip=none leaves them as they are")
        check_range(self, "train", 0, MOST_STEPS, "pretrain_steps", "pretrain_warmup")
        check_range(self, "train", 0, 2**20, "pretrain_batch")
        check_range(self, "train", 0, math.inf, "pretrain_lr")
        check_range(self, "train", 0, 1, "pretrain_share", below=True)
        if self.pretrain_share == 0:
            raise ConfigError(
                "train.pretrain_share=0 would mask nothing; train.pretrain=none leaves the pretraining out"
            )
        steps = self.pretrain_steps or self.steps
        if self.schedule != "rsqrt" and self.pretrain_warmup > steps:
            raise ConfigError(
                f"train.pretrain_warmup={self.pretrain_warmup} must not exceed the {steps} steps of the pretraining: "
                "set train.pretrain_steps, too"
            )

    def of_pretraining(self) -> "Train":
        """The section `train` of the pretraining: each 0 replaced by what it stands for, quirks left out.

        Pretraining is evaluated EVALUATIONS times, and the training starts from its last weights.
        """
        steps = self.pretrain_steps or self.steps
        return replace(
            self,
            steps=steps,
            batch=self.pretrain_batch or self.batch,
            lr=self.pretrain_lr or self.lr,
            warmup=self.pretrain_warmup or round(self.warmup * steps / self.steps),
            evaluate_every=-(-steps // EVALUATIONS),
            validation_batches=0,
            drop_last=False,
            select="last",
            select_after=0.0,
            pretrain_steps=0,
            pretrain_batch=0,
            pretrain_lr=0.0,
            pretrain_warmup=0,
        )


@dataclass(frozen=True, kw_only=True)
class Config:
    """The resolved configuration of a run; `data` is the settings dataclass of its task."""

    model: Model
    train: Train
    data: Any
