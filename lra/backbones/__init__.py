"""The models that an attention plugs into. They import torch only, and know an attention as a module.

A backbone is a file with a subclass of `Classifier` that is decorated with `register`; its name is the name of the
file. It defines `build_body`, `body` and `attentions`; the keyword-only arguments of `build_body` are keys of the
section `model`. What is the same around every backbone is in `classifier`. torch is imported with the first class that
is asked for.
"""

import importlib
from typing import TYPE_CHECKING

from lra.backbones.registry import Backbone, BackboneError, names, register

if TYPE_CHECKING:
    from lra.backbones.classifier import Classifier, MakeAttention, Model
    from lra.backbones.layers import Block

__all__ = ["Backbone", "BackboneError", "Block", "Classifier", "MakeAttention", "Model", "names", "register"]

WITH_TORCH = {"Block": "layers", "Classifier": "classifier", "MakeAttention": "classifier", "Model": "classifier"}


def __getattr__(name: str) -> object:
    if name not in WITH_TORCH:
        raise AttributeError(f"module 'lra.backbones' has no attribute {name!r}")
    return getattr(importlib.import_module(f"lra.backbones.{WITH_TORCH[name]}"), name)
