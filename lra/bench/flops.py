"""Counts the floating-point operations of a module on tensors without data: it computes nothing and takes no memory.

The count has matrix products, convolutions and Fourier transforms, forward or forward and backward. A multiplication
and an addition are two operations; an attention kernel counts as the products it is made of. What works element by
element is left out: activations, powers, softmax, normalisation, sorting, gathering. Only sizes matter, never values,
so padding counts as if it were real.

The tensors are fake: they are on the meta device but claim to be on the CPU, because autocast refuses "meta". Fused
attention is switched off, because torch's counter reports 0 for the CPU's (pytorch issue 195460).
"""

import copy
import math
import re
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeCopyMode, FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode, conv_flop_count

from lra.errors import CountError

LENGTHS = (65_536, 262_144)  # so long that the projections, 8 N D^2, no longer hide what grows faster
TOLERANCE = 0.1  # between a measured and a declared exponent: the weight of the linear parts at these lengths


def flops(module: nn.Module, *inputs: Tensor | None, training: bool = False) -> int:
    """Operations of module(*inputs); with `training`, of its backward pass, too. Only the inputs' shapes matter.

    The module and its inputs are on the same device and stay as they are. Raises CountError when the operations depend
    on values.
    """
    mode = FakeTensorMode()
    with FakeCopyMode(mode):
        fake = copy.deepcopy(module)
    with mode:
        tensors = [None if t is None else torch.empty(t.shape, dtype=t.dtype, device=t.device) for t in inputs]
        return _count(fake, tensors, training)


def sample_flops(model: nn.Module, length: int, pair: bool) -> int | None:
    """Operations of the forward pass of one sample of this length, or two documents; None where they are not known."""
    try:
        return flops(model, torch.zeros((1, 2, length) if pair else (1, length), dtype=torch.long), None)
    except CountError:
        return None


def attention_flops(make: Callable[[int], nn.Module], length: int, *, dim: int) -> int:
    """Operations of an attention's forward pass, projections included, on x (1, length, dim) without padding.

    make: length -> the module for sequences of at most this length. It is built from tensors without data, or from real
    ones if its initialisation looks at values, as trunc_normal_ does. Raises CountError.
    """
    mode = FakeTensorMode()
    try:
        with mode:
            module = make(length)
    except DataDependentOutputException:
        real = make(length)
        with FakeCopyMode(mode):
            module = copy.deepcopy(real)
    with mode:
        return _count(module, [torch.empty(1, length, dim)], training=False)


def _count(module: nn.Module, inputs: list[Tensor | None], training: bool) -> int:
    counter = FlopCounterMode(display=False, custom_mapping=COUNTS)
    try:
        with torch.set_grad_enabled(training), sdpa_kernel(SDPBackend.MATH), counter:
            y = module.train(training)(*inputs)
            if training:
                y.sum().backward()
    except Exception as error:
        why = " ".join(str(error).split())[:200] or type(error).__name__
        raise CountError(
            f"FLOPs of {type(module).__name__} cannot be counted: {why}; its operations must not depend on values, and "
            "its tensors must be parameters, buffers or made in forward"
        ) from error
    return int(counter.get_total_flops())


def exponent(make: Callable[[int], nn.Module], *, dim: int) -> float:
    """The slope of log FLOPs over log N between the first and the last length; arguments as for `attention_flops`."""
    first, last = LENGTHS[0], LENGTHS[-1]
    few, many = (attention_flops(make, length, dim=dim) for length in (first, last))
    return math.log(many / few) / math.log(last / first)


def declared_exponent(cost: str, lengths: Sequence[int] = LENGTHS) -> float:
    """The same slope for a declared cost: 1 for "O(N)", 2 for "O(N^2)", 1.09 for "O(N log N)". Raises CountError."""
    first, last = lengths[0], lengths[-1]
    return math.log(growth(cost, last) / growth(cost, first)) / math.log(last / first)


def growth(cost: str, length: float) -> float:
    """A cost at this N, such as "O(N)", "O(N w)", "O(N^1.5)", "O(N log N)", "O(N sqrt N)"; other letters are constants.

    Raises CountError for any other form.
    """
    inside = re.fullmatch(r"O\((.+)\)", cost.strip())
    text = re.sub(r"\b(log|sqrt)\s*\(?\s*N\s*\)?", r"\1N", inside[1]) if inside else ""
    value = 1.0
    for factor in re.split(r"[\s*·]+", text.strip()):
        power = re.fullmatch(r"N(?:\^(\d+(?:\.\d+)?))?", factor)
        if power:
            value *= length ** float(power[1] or 1)
        elif factor in ("logN", "sqrtN"):
            value *= math.log(length) if factor == "logN" else math.sqrt(length)
        elif re.fullmatch(r"n(\^.*)?", factor):
            raise CountError(f"cost {cost!r} is not understood: write N for the tokens, as in {cost.replace('n', 'N')}")
        elif not re.fullmatch(r"[a-zA-Z]\w*(\^\d+)?|\d+", factor):
            raise CountError(f"cost {cost!r} is not understood: write O(N), O(N^2), O(N log N), O(N sqrt N) or O(N w)")
    return value


def agrees(measured: float, cost: str) -> bool:
    """Does a measured exponent agree with the declared cost? Raises CountError."""
    return abs(measured - declared_exponent(cost)) <= TOLERANCE


def _fourier(shape: Sequence[int], axes: Sequence[int], scale: float) -> int:
    """scale * n log2 n, summed over all transforms of n points."""
    points = math.prod(shape[axis] for axis in axes)
    return int(scale * math.prod(shape) * math.log2(max(points, 2)))


def _convolution_backward(gradient, x, weight, *rest, **_):
    """Each gradient takes as many operations as the forward pass; torch's count of the weight's ignores the groups."""
    transposed, mask = rest[4], rest[-1]
    return conv_flop_count(gradient, weight, x, not transposed) * (mask[0] + mask[1])


# A real transform does half the work of a complex one, which is 5 n log2 n (Cooley and Tukey's count).
COUNTS = {
    torch.ops.aten.convolution_backward: _convolution_backward,
    torch.ops.aten._fft_c2c: lambda shape, axes, *_, **__: _fourier(shape, axes, 5),
    torch.ops.aten._fft_r2c: lambda shape, axes, *_, **__: _fourier(shape, axes, 2.5),
    torch.ops.aten._fft_c2r: lambda _, axes, *__, out_shape, **___: _fourier(out_shape, axes, 2.5),
}
