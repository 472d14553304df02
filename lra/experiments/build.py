"""Builds the model of a run from an attention, a backbone and the sizes of a task.

This is the one module that sees the zoo, the tasks and the backbones together.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import attention_zoo
import tasks
from lra.backbones import Classifier
from lra.backbones.denoiser import Denoiser
from lra.backbones.weights import initialise
from lra.errors import ConfigError
from lra.experiments.backbone import import_class
from lra.hashing import seed_of
from lra.training.device import Padding
from lra.training.process import seed_everything

if TYPE_CHECKING:
    from lra.experiments.run import Run

CLASSES = 256  # a prediction is stored as a byte


def padding_of(run: Run, spec: tasks.Spec) -> Padding:
    """How the task's samples become the ids of this run."""
    return Padding(
        length=run.length(spec),
        to_full_length=run.attention.padding == "fixed",
        padded=spec.padded,
        zero_is_padding=run.config.model.zero_is_padding,
    )


def make_model(run: Run, spec: tasks.Spec) -> Classifier:
    """The model of a run, initialised, on the CPU.

    Raises SpecError when the attention refuses the sizes, ConfigError when the model does not fit the task or the
    backbone refuses it.
    """
    model, make_attention = run.config.model, AttentionMaker(run, dims_of(run, spec))
    keys = {name: getattr(model, name) for name in run.backbone.keys}
    seed_everything(seed_of(run.seed, "backbone"))
    try:
        classifier = import_class(run.backbone)(model, spec, make_attention, **keys)
    except (attention_zoo.SpecError, ConfigError):
        raise
    except Exception as error:
        if run.backbone.builtin and not isinstance(error, ValueError):
            raise
        kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
        raise ConfigError(f"backbone {run.backbone.name}: {kind}{error}") from error
    make_attention.check_stages()
    if run.config.train.pretrain != "none" and classifier.merged > 1:
        raise ConfigError(
            f"train.pretrain: the backbone {run.backbone.name} merges tokens, so that it has no output for each token; "
            "set train.pretrain=none"
        )
    initialise(classifier, seed=run.seed, embedding_std=model.embedding_std, attentions=make_attention.attentions)
    return classifier


def make_denoiser(run: Run, spec: tasks.Spec) -> Denoiser:
    """The model that pretrains the encoder, which starts with the weights of `make_model`. Raises as that does."""
    denoiser = Denoiser(make_model(run, spec), run.config.train.pretrain_share)
    initialise(denoiser.own, seed=seed_of(run.seed, "pretraining"), embedding_std=run.config.model.embedding_std)
    return denoiser


class AttentionMaker:
    """Makes the attentions of a run's model; see `lra.backbones.MakeAttention`.

    A mechanism's own parameters are drawn from the seed and the layer.
    """

    def __init__(self, run: Run, dims: attention_zoo.Dims):
        self.run, self.dims = run, dims
        self.stages, self.attentions = set[int](), list[attention_zoo.Attention]()

    def __call__(
        self, layer: int, *, stage: int | None = None, place: int | None = None, **sizes: Any
    ) -> attention_zoo.Attention:
        stage, run = layer if stage is None else stage, self.run
        self.stages.add(stage)
        entry, options = run.attention.part(run.options, layer=layer, stage=stage)
        dims = replace(self.dims, layer=layer if place is None else place, **sizes)
        seed_everything(seed_of(run.seed, "attention", layer))
        attention = entry.build(dims, options)
        seed_everything(seed_of(run.seed, "backbone", layer))  # what a backbone draws next is equal for all mechanisms
        self.attentions.append(attention)
        return attention

    def check_stages(self) -> None:
        """Raises SpecError for a hybrid by stage that does not name one mechanism for each stage of the model."""
        entry, stages = self.run.attention, len(self.stages)
        if isinstance(entry, attention_zoo.Stack) and entry.by_stage and len(entry.parts) != stages:
            raise attention_zoo.SpecError(
                f"{entry.name} names mechanisms for {len(entry.parts)} stages, but {self.run.backbone.name} has "
                f"{stages}: set model.stages, or model.layers where each layer is a stage"
            )


def dims_of(run: Run, spec: tasks.Spec) -> attention_zoo.Dims:
    """The sizes that the attention is built for. Raises ConfigError when the model does not fit the task."""
    model = run.config.model
    check_fit(run, spec)
    try:
        return attention_zoo.Dims(
            dim=model.dim,
            heads=model.heads,
            length=run.length(spec) + (model.pool == "cls"),
            grid=spec.grid if model.grid else None,
            dropout=model.attention_dropout,
            rope=model.positions == "rope",
        )
    except ValueError as error:
        raise ConfigError(f"model: {error}") from error


def check_fit(run: Run, spec: tasks.Spec) -> None:
    """Raises ConfigError when the model is too small for the task, or has a setting the task cannot have."""
    model = run.config.model
    if spec.classes > CLASSES:
        raise ConfigError(f"{run.task} has {spec.classes} classes; predictions are kept for at most {CLASSES}")
    if spec.vocab > (model.vocab or spec.vocab) or spec.length > run.length(spec):
        raise ConfigError(
            f"{run.task} has {spec.vocab} ids and up to {spec.length} tokens: more than model.vocab={model.vocab}, "
            f"model.length={model.length}"
        )
    if model.zero_is_padding and spec.padded:
        raise ConfigError(f"model.zero_is_padding: {run.task} has an id of its own for padding; leave it out")
    if model.grid and spec.grid is None:
        raise ConfigError(f"model.grid: the tokens of {run.task} form no grid; --set model.grid=false")
    if model.grid and model.pool == "cls":
        raise ConfigError("model.grid: with a cls token the tokens form no grid; --set model.pool=mean")
