"""The mechanisms: one file each, found by name. This package knows tensors, and nothing of tasks or training.

To add a mechanism, add a file with a class that is decorated with `register`; the mechanism has the name of the file.
Torch is the only dependency and is imported when a class is first used. Files that begin with an underscore hold what
mechanisms share, and the code that finds them.

`process` restores the settings of the process after a user's code has run. `file_at` and `load_file` find and import a
user's file; the suite uses them for backbones, too.
"""

import importlib
from typing import TYPE_CHECKING

from attention_zoo import _process as process
from attention_zoo._entry import FAMILIES, Entry
from attention_zoo._options import SpecError
from attention_zoo._plugin import load as load_file
from attention_zoo._registry import build, find, names, register
from attention_zoo._source import PUBLIC, file_at
from attention_zoo._stack import Stack

if TYPE_CHECKING:
    from attention_zoo._base import Attention, QKVAttention
    from attention_zoo._dims import Dims
    from attention_zoo._parts import LocalConv, linear_attention, softmax_attention

__all__ = [
    "FAMILIES",
    "Attention",
    "Dims",
    "Entry",
    "LocalConv",
    "QKVAttention",
    "SpecError",
    "Stack",
    "build",
    "file_at",
    "find",
    "linear_attention",
    "load_file",
    "names",
    "process",
    "register",
    "softmax_attention",
]


def __getattr__(name: str) -> object:
    if name not in PUBLIC:
        raise AttributeError(f"module 'attention_zoo' has no attribute {name!r}")
    return getattr(importlib.import_module(f"attention_zoo.{PUBLIC[name]}"), name)
