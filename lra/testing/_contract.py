"""The contract's quick checks of what an attention computes: shapes, gradients, padding, rows, precision.

Each check takes a spec, as on the command line, and a grid or None, and raises AssertionError. Its docstring says what
is required and what is usually wrong; `check` prints it below a failure. Letters: B batch, N tokens, D width.
"""

import torch
from torch import Tensor

import attention_zoo
from lra.testing._setup import LENGTH, Grid, assert_same, build_attention, cases, has_one_length, make, padding, sample


def runs(spec: str, grid: Grid = None) -> None:
    """It is built from dims, has attend(self, q, k, v, keep=None) or forward(self, x, keep=None), keeps the shape."""
    attention, x = make(spec, grid), sample(grid)
    for keep in (None, padding(x)):
        y = attention(x, keep)
        assert isinstance(y, torch.Tensor), f"returned a {type(y).__name__}"
        assert y.shape == x.shape, f"{tuple(x.shape)} became {tuple(y.shape)}"


def shapes(spec: str, grid: Grid = None) -> None:
    """(B, N, D) in, the same out: batch of 1, lengths 1, odd, prime and maximal; only maximal if padding="fixed"."""
    attention = make(spec, grid)
    for tokens in [LENGTH] if has_one_length(spec, grid) else [1, 2, 7, 15, 23, LENGTH]:
        for batch in (1, 3):
            x = sample(grid, batch, tokens)
            y = attention(x)
            assert y.shape == x.shape, f"length {tokens}: {tuple(x.shape)} became {tuple(y.shape)}"
            assert y.isfinite().all(), f"length {tokens}: not finite"


def dtype(spec: str, grid: Grid = None) -> None:
    """The output has the dtype of x, or bfloat16 under autocast; end your forward with `.to(x.dtype)`."""
    for training in (False, True):
        for wanted in (torch.float32, torch.float64):
            x = sample(grid).to(wanted)
            y = build_attention(spec, grid=grid).to(wanted).train(training)(x, padding(x))
            assert y.dtype == wanted, f"{wanted} became {y.dtype}".replace("torch.", "")
        with torch.autocast("cpu", dtype=torch.bfloat16):
            y = build_attention(spec, grid=grid).train(training)(sample(grid).float())
        fine = y.dtype in (torch.float32, torch.bfloat16)
        assert fine, f"float32 under bfloat16 autocast became {y.dtype}".replace("torch.", "")


def finite(spec: str, grid: Grid = None) -> None:
    """Inputs of normal size give finite outputs in float32, in evaluation and in training; a root, log or division?"""
    for training in (False, True):
        attention = build_attention(spec, grid=grid).train(training)
        for size in (0.0, 1e-3, 1.0, 10.0):
            x = size * sample(grid).float()
            for keep in (None, padding(x)):
                y = attention(x, keep)
                y = y if keep is None else y[keep]
                mode = "in training" if training else "in evaluation"
                assert y.isfinite().all(), f"{mode}: inputs of size {size:g} give outputs that are not finite"


def gradients(spec: str, grid: Grid = None) -> None:
    """Every parameter gets a finite gradient that is not all zero; a detached path or a dead option shows here."""
    attention, x = make(spec, grid).train(), sample(grid).requires_grad_()  # x too: a mechanism may have no parameters
    attention(x, padding(x)).square().sum().backward()
    for name, parameter in attention.named_parameters():
        assert parameter.grad is not None, f"{name} gets no gradient: is it used?"
        assert parameter.grad.isfinite().all(), f"{name}: gradient not finite; a root, log or power at 0?"
        assert parameter.grad.any(), f"{name}: gradient is zero everywhere"


def gradcheck(spec: str, grid: Grid = None) -> None:
    """Gradients in x equal finite differences, in float64."""
    attention = make(spec, grid)
    x = sample(grid, 2, LENGTH if has_one_length(spec, grid) else 5).requires_grad_()
    keep = torch.ones(x.shape[:2], dtype=torch.bool)
    keep[1, 3:] = False
    assert torch.autograd.gradcheck(lambda x: attention(x, keep)[keep], (x,), fast_mode=True)


def padding_content(spec: str, grid: Grid = None) -> None:
    """NaN and 1e4 in padding change nothing at real tokens; mask keys after the feature map, by selection."""
    for mode, forward, x in cases(spec, grid):
        keep = padding(x)
        clean = forward(torch.where(keep[..., None], x, 0.0), keep)
        for garbage in (float("nan"), 1e4):
            dirty = forward(torch.where(keep[..., None], x, garbage), keep)
            assert_same(dirty[keep], clean[keep], mode)
            assert dirty.isfinite().all(), f"{mode}: {garbage} in padding must give a finite output there"


def padding_amount(spec: str, grid: Grid = None) -> None:
    """The amount of padding changes nothing: pass keep on, mask keys, divide by the number of real tokens, not by N."""
    if grid is not None:
        return
    for mode, forward, x in cases(spec, None):
        longest = x.shape[1]
        for real in (1, 7, 20) if longest == LENGTH else (40, 97):
            alone = forward(x[:, :real])
            for tokens in (real + 1, longest):
                keep = torch.arange(tokens) < torch.full((len(x), 1), real)
                assert_same(forward(x[:, :tokens], keep)[:, :real], alone, mode)


def scattered_padding(spec: str, grid: Grid = None) -> None:
    """Padding need not be a suffix: no padded position has any influence, wherever it is."""
    for mode, forward, x in cases(spec, grid):
        keep = torch.rand(x.shape[:2], generator=torch.Generator().manual_seed(2)) < 0.5
        other = torch.where(keep[..., None], x, 3.0)
        assert_same(forward(other, keep)[keep], forward(x, keep)[keep], mode)
    attention, x = make(spec, grid), sample(grid)
    if isinstance(attention, attention_zoo.QKVAttention):
        keep = torch.rand(x.shape[:2], generator=torch.Generator().manual_seed(2)) < 0.5
        expected = attention(x, keep)[keep]
        disturb(attention)
        assert_same(attention(x, keep)[keep], expected, "q, k and v changed at padding")


def disturb(attention: attention_zoo.QKVAttention) -> None:
    """Lets `attend` see other q, k and v at padding; without a bias they would be zero wherever x is zero."""
    attend = attention.attend

    def disturbed(q: Tensor, k: Tensor, v: Tensor, keep: Tensor | None = None) -> Tensor:
        if keep is not None and k.shape[2] == keep.shape[1]:
            q, k, v = (torch.where(keep[:, None, :, None], t, t + 3.0) for t in (q, k, v))
        return attend(q, k, v, keep)

    attention.attend = disturbed


def all_padding(spec: str, grid: Grid = None) -> None:
    """A row that is all padding gives finite output and gradients; no division by zero tokens."""
    attention, x = make(spec, grid).train(), sample(grid).requires_grad_()
    keep = padding(x)
    keep[1] = False
    y = attention(x, keep)
    assert y.isfinite().all(), "the output of a fully padded row is not finite"
    y[keep].sum().backward()
    for name, parameter in attention.named_parameters():
        assert parameter.grad is None or parameter.grad.isfinite().all(), f"{name}: gradient not finite"


def keep_none(spec: str, grid: Grid = None) -> None:
    """keep=None is the same as a mask of ones."""
    for mode, forward, x in cases(spec, grid):
        assert_same(forward(x), forward(x, torch.ones(x.shape[:2], dtype=torch.bool)), mode)


def batch_rows(spec: str, grid: Grid = None) -> None:
    """Rows of a batch do not mix, in evaluation or in training: no statistic over the batch (BatchNorm), no order."""
    for mode, forward, x in cases(spec, grid):
        keep, together = padding(x), forward(x, padding(x))
        for row in (slice(0, 1), slice(1, 2), slice(2, 3)):
            assert_same(together[row][keep[row]], forward(x[row], keep[row])[keep[row]], mode)


def low_precision(spec: str, grid: Grid = None) -> None:
    """bfloat16 autocast stays within 5 % of float64; if it does not, take long sums and powers in float32."""
    attention, x = make(spec, grid), sample(grid)
    keep = padding(x)
    exact = attention(x, keep)[keep]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = attention.float()(x.float(), keep)[keep].double()
    error = (rough - exact).norm() / exact.norm()
    assert error < 0.05, f"relative error {float(error):.3f} in bfloat16"
