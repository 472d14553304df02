"""A depthwise convolution that torch.compile takes as one operation.

While it compiles, torch selects one of its convolutions, and the choice depends on the size of the batch (below 16 rows
or not), so that the compiled code would serve only some batch sizes. Letters: B batch, C channels.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def convolve(layer: nn.Conv1d | nn.Conv2d, image: Tensor) -> Tensor:
    """layer(image), image (B, C, ...) -> the same shape. layer: depthwise, odd kernel, zero padded by half of it."""
    if not torch.compiler.is_compiling():
        return layer(image)
    weight, bias, device = layer.weight, layer.bias, image.device.type
    if torch.is_autocast_enabled(device) and image.dtype != torch.float64:  # autocast does not know this operation
        dtype = torch.get_autocast_dtype(device)
        image, weight, bias = image.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)
    return depthwise(image, weight, bias)


@torch.library.custom_op("attention_zoo::depthwise", mutates_args=())
def depthwise(image: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """image (B, C, ...), weight (C, 1, ...), bias (C,) or None -> like image."""
    layer = F.conv1d if weight.ndim == 3 else F.conv2d
    padding = tuple(taps // 2 for taps in weight.shape[2:])
    return layer(image, weight, bias, padding=padding, groups=len(weight)).contiguous()


@torch.library.custom_op("attention_zoo::depthwise_backward", mutates_args=())
def depthwise_backward(gradient: Tensor, image: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of the image, the weight and the bias."""
    axes = weight.ndim - 2
    padding = [taps // 2 for taps in weight.shape[2:]]
    gradients = torch.ops.aten.convolution_backward(
        gradient,
        image,
        weight,
        [len(weight)],
        [1] * axes,
        padding,
        [1] * axes,
        False,
        [0] * axes,
        len(weight),
        [True] * 3,
    )
    to_image, to_weight, to_bias = (t.contiguous() for t in gradients)
    return to_image, to_weight, to_bias


@depthwise.register_fake
def _(image: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:  # noqa: ARG001
    return image.new_empty(image.shape)


@depthwise_backward.register_fake
def _(gradient: Tensor, image: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:  # noqa: ARG001
    return image.new_empty(image.shape), weight.new_empty(weight.shape), weight.new_empty(len(weight))


def _save(ctx, inputs, output) -> None:  # noqa: ARG001
    image, weight, bias = inputs
    ctx.save_for_backward(image, weight)
    ctx.biased = bias is not None


def _backward(ctx, gradient: Tensor):
    to_image, to_weight, to_bias = depthwise_backward(gradient, *ctx.saved_tensors)
    return to_image, to_weight, to_bias if ctx.biased else None


depthwise.register_autograd(_backward, setup_context=_save)
