"""The contract's quick checks: seconds for all of them, run over every registered mechanism by our own tests.

Each takes a spec, as on the command line, and a grid or None, and raises AssertionError with what is usually wrong.
Letters: B batch, N tokens, D width.
"""

import copy

import torch
from safetensors.torch import load, save
from torch.testing import assert_close

from lra.testing._setup import LENGTH, Grid, make, padding, sample, whole


def runs(spec: str, grid: Grid = None) -> None:
    """It is built from dims, has attend(self, q, k, v, keep=None) or forward(self, x, keep=None), keeps the shape."""
    attention, x = make(spec, grid), sample(grid)
    for keep in (None, padding(x)):
        y = attention(x, keep)
        assert isinstance(y, torch.Tensor), f"returned a {type(y).__name__}"
        assert y.shape == x.shape, f"{tuple(x.shape)} became {tuple(y.shape)}"


def shapes(spec: str, grid: Grid = None) -> None:
    """(B, N, D) in, the same out: batch of 1, lengths 1, odd, prime and maximal; of padding="fixed" the maximal one."""
    attention = make(spec, grid)
    for tokens in [LENGTH] if whole(spec, grid) else [1, 2, 7, 15, 23, LENGTH]:
        for batch in (1, 3):
            x = sample(grid, batch, tokens)
            y = attention(x)
            assert y.shape == x.shape, f"length {tokens}: {tuple(x.shape)} became {tuple(y.shape)}"
            assert y.isfinite().all(), f"length {tokens}: not finite"


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
    x = sample(grid, 2, LENGTH if whole(spec, grid) else 5).requires_grad_()
    keep = torch.ones(x.shape[:2], dtype=torch.bool)
    keep[1, 3:] = False
    assert torch.autograd.gradcheck(lambda x: attention(x, keep)[keep], (x,), fast_mode=True)


def padding_content(spec: str, grid: Grid = None) -> None:
    """NaN and 1e4 in padding change nothing at real tokens; mask keys after the feature map, by selection."""
    attention, x = make(spec, grid), sample(grid)
    keep = padding(x)
    clean = attention(torch.where(keep[..., None], x, 0.0), keep)
    for garbage in (float("nan"), 1e4):
        dirty = attention(torch.where(keep[..., None], x, garbage), keep)
        assert_close(dirty[keep], clean[keep], rtol=0, atol=1e-12)
        assert dirty.isfinite().all(), f"{garbage} in padding: the output there must be finite"


def padding_amount(spec: str, grid: Grid = None) -> None:
    """How much padding follows changes nothing: pass keep on, mask keys, divide by the real tokens, not by N."""
    if grid is not None:
        return
    attention, x = make(spec), sample(None)
    for real in (1, 7, 20):
        alone = attention(x[:, :real])
        for tokens in (real + 1, LENGTH):
            keep = torch.arange(tokens) < torch.full((len(x), 1), real)
            assert_close(attention(x[:, :tokens], keep)[:, :real], alone, rtol=0, atol=1e-12)


def scattered_padding(spec: str, grid: Grid = None) -> None:
    """Padding need not be a suffix: what stands at any padded position has no influence."""
    attention, x = make(spec, grid), sample(grid)
    keep = torch.rand(x.shape[:2], generator=torch.Generator().manual_seed(2)) < 0.5
    other = torch.where(keep[..., None], x, 3.0)
    assert_close(attention(other, keep)[keep], attention(x, keep)[keep], rtol=0, atol=1e-12)


def all_padding(spec: str, grid: Grid = None) -> None:
    """A row of padding alone gives finite output and gradients; no division by zero tokens."""
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
    attention, x = make(spec, grid), sample(grid)
    assert_close(attention(x), attention(x, torch.ones(x.shape[:2], dtype=torch.bool)), rtol=0, atol=1e-12)


def batch_rows(spec: str, grid: Grid = None) -> None:
    """Rows of a batch do not mix: no statistic over the batch, no order of rows."""
    attention, x = make(spec, grid), sample(grid)
    keep = padding(x)
    together = attention(x, keep)
    for row in range(len(x)):
        alone = attention(x[row : row + 1], keep[row : row + 1])
        assert_close(together[row : row + 1][keep[row : row + 1]], alone[keep[row : row + 1]], rtol=0, atol=1e-12)


def deterministic(spec: str, grid: Grid = None) -> None:
    """Evaluation gives the same bits whatever the random generator holds."""
    attention, x = make(spec, grid, dropout=0.5), sample(grid)
    first = attention(x)
    torch.manual_seed(1234)
    assert_close(attention(x), first, rtol=0.0, atol=0.0)


def low_precision(spec: str, grid: Grid = None) -> None:
    """bfloat16 autocast stays within 5 % of float64; long sums and powers run in float32."""
    attention, x = make(spec, grid), sample(grid)
    keep = padding(x)
    exact = attention(x, keep)[keep]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = attention.float()(x.float(), keep)[keep].double()
    error = (rough - exact).norm() / exact.norm()
    assert error < 0.05, f"relative error {float(error):.3f} in bfloat16"


def round_trip(spec: str, grid: Grid = None) -> None:
    """Weights survive safetensors into a fresh module: no unregistered buffer, no shared tensor."""
    attention, x = make(spec, grid), sample(grid)
    fresh = make(spec, grid, seed=99)
    fresh.load_state_dict(load(save(attention.state_dict())), strict=True)
    assert_close(fresh(x), attention(x), rtol=0.0, atol=0.0)


def deep_copy(spec: str, grid: Grid = None) -> None:
    """A deep copy computes the same and shares no memory; keep no lambda, hook or view of a parameter as attribute."""
    attention, x = make(spec, grid), sample(grid)
    twin = copy.deepcopy(attention)
    assert_close(twin(x), attention(x), rtol=0.0, atol=0.0)
    shared = {p.data_ptr() for p in attention.parameters()} & {p.data_ptr() for p in twin.parameters()}
    assert not shared, "the copy shares parameters with the original"
