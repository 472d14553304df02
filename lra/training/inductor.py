"""torch.compile's own backend on a CPU, set so that it compiles a model once, and a second process starts in seconds.

By default its cache leaves out graphs with an autocast block or a custom autograd function, so that every process
compiles them again; a sum of more than 4,096 numbers gets other code than a shorter one, so that one compilation does
not serve both; kernels carry line tables for debuggers; and generated draws are slower than PyTorch's. This module
changes all of that.
"""

import contextlib
import functools
import hashlib
import numbers
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch._functorch import config as functorch
from torch.compiler import config as compiler
from torch.fx.experimental import _config as shapes
from torch.fx.experimental import symbolic_shapes

# Functions that are safe to cache: they depend on their arguments only, which the graph holds.
AUTOCAST = ("torch.amp.autocast_mode._enter_autocast", "torch.amp.autocast_mode._exit_autocast")
SETTINGS = {
    "fallback_random": True,  # draws as the eager gear; generated draws are slower, and dropout of weights has N^2
    "unsafe_marked_cacheable_functions": dict.fromkeys(AUTOCAST, torch.__version__),
    "aot_inductor.enable_line_tables": False,  # for all kernels, despite its name; saves a seventh of g++'s time
    "aot_inductor.enable_frame_pointer": False,
}


def inductor_for(model: nn.Module) -> Callable[[torch.fx.GraphModule, Any], Any]:
    """The backend for this model."""
    tag = code_hash(model)
    # Cached graphs are guarded by symbolic expressions. Python's max would compare sizes, which adds a guard.
    getattr(symbolic_shapes, "SYMPY_INTERP", {}).update(max=largest, min=smallest)

    def backend(graph: torch.fx.GraphModule, inputs: Any) -> Any:
        from torch._inductor import config  # takes a second, and prints warnings
        from torch._inductor.compile_fx import compile_fx, compile_fx_inner

        remember_strides()
        known = config.get_config_copy()
        settings = {name: value for name, value in SETTINGS.items() if name in known}
        by_hand = patched(functorch, "autograd_cache_allow_custom_autograd_functions", True)
        with by_hand, patched(compiler, "cache_key_tag", tag):
            return compile_fx(graph, inputs, inner_compile=one_code(compile_fx_inner), config_patches=settings)

    return backend


def remember_strides() -> None:
    """Lets the compiler cache all its results about strides: it needs many more than the 128 that it would keep."""
    from torch._inductor import sizevars

    for name in ("simplify_index_in_vec_range", "stride_at"):
        function: Any = getattr(sizevars, name, None)
        if hasattr(function, "cache_parameters") and function.cache_parameters()["maxsize"]:
            setattr(sizevars, name, functools.cache(function.__wrapped__))


def one_code(compile_graph: Callable[..., Any]) -> Callable[..., Any]:
    """Wraps a function that generates the code of a graph, so that the code branches on no size that varies."""

    def compile_for_all(*arguments: Any, **options: Any) -> Any:
        with patched(shapes, "backed_size_oblivious", True):
            return compile_graph(*arguments, **options)

    return compile_for_all


def largest(*sizes: Any) -> Any:
    return functools.reduce(torch.sym_max, map(number, sizes))


def smallest(*sizes: Any) -> Any:
    return functools.reduce(torch.sym_min, map(number, sizes))


def number(size: Any) -> Any:
    """The size as a number that torch accepts: the compiler's hint of a size may be sympy's, which torch refuses."""
    return int(size) if isinstance(size, numbers.Integral) else size


def patched(config: Any, name: str, value: Any) -> contextlib.AbstractContextManager[Any]:
    """Sets an option of torch for a while; does nothing where this release has no such option."""
    return config.patch(**{name: value}) if hasattr(config, name) else contextlib.nullcontext()


def code_hash(model: nn.Module) -> str:
    """A hash of the Python files beside those that define the model.

    The cache knows a custom operator by its name alone; with this hash it also notices an edit of its gradient.
    """
    modules = {type(module).__module__ for module in model.modules()}
    names = [name for name in modules if name.partition(".")[0] != "torch"]
    files = [getattr(sys.modules.get(name), "__file__", None) for name in names]
    folders = {Path(file).resolve().parent for file in files if file}
    content = hashlib.sha256()
    for path in sorted(path for folder in folders for path in folder.glob("*.py")):
        with contextlib.suppress(OSError):
            content.update(path.read_bytes())
    return content.hexdigest()
