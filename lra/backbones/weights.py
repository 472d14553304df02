"""How the parameters of a model start, and how many it has."""

import math
from collections.abc import Iterable

import torch
from torch import nn

from lra.backbones.classifier import Classifier
from lra.hashing import seed_of

COMMON = ("qkv", "out", "gate", "local")  # parts of an attention that start by the same rule in every mechanism


@torch.no_grad()
def initialise(model: nn.Module, *, seed: int, embedding_std: float, attentions: Iterable[nn.Module] = ()) -> None:
    """Draws each parameter from hash(seed, its name), so that the parameters that mechanisms share start equal.

    Embeddings are N(0, embedding_std); other layers start as in PyTorch, uniform within 1 / sqrt(fan in). A mechanism's
    own parameters (any not under qkv, out, gate or local) stay as its constructor made them. attentions: the modules of
    the model that are mechanisms.
    """
    places = {id(part): place for attention in attentions for place, part in attention.named_modules()}
    for module_name, module in model.named_modules():
        if places.get(id(module), "").split(".")[0] not in ("", *COMMON):
            continue
        for name, parameter in module.named_parameters(prefix=module_name, recurse=False):
            generator = torch.Generator().manual_seed(seed_of(seed, name))
            if isinstance(module, nn.Embedding):
                parameter.normal_(0.0, embedding_std, generator=generator)
            elif isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d):
                bound = 1 / math.sqrt(module.weight[0].numel())
                parameter.uniform_(-bound, bound, generator=generator)


def count_parameters(model: Classifier) -> dict[str, int]:
    """total, without_embeddings (tokens and positions), attention (all layers' mechanisms, projections included)."""
    total = sum(p.numel() for p in model.parameters())
    tables = [table for table in (model.tokens, model.positions, model.cls) if table is not None]
    embeddings = sum(p.numel() for table in tables for p in table.parameters())
    attention = sum(p.numel() for module in model.attentions() for p in module.parameters())
    return {"total": total, "without_embeddings": total - embeddings, "attention": attention}
