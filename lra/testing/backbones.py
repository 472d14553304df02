"""The contract every backbone is held to, with any attention in it: padding, rows, gradients, compilation, learning.

A check takes a backbone and an attention, as on the command line, and a grid or None. It raises AssertionError where
the contract is broken, and may return what it found, in a few words. Letters: B batch, N tokens.
"""

import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

import attention_zoo
import tasks
from lra.backbones import Classifier
from lra.experiments.build import make_model
from lra.experiments.plan import Request, plan
from lra.experiments.run import Run
from lra.testing._setup import LENGTH, Grid, assert_same, has_one_length
from lra.testing._thorough import BATCHES, compiling, inductor_without_machine_code, mark_dynamic
from lra.testing.outcomes import Outcome, attempts
from lra.training.compiled import SHORTEST

Check = Callable[..., str | None]
VOCAB, CLASSES, SAMPLES = 12, 3, 16
SIZES = ("layers=2", "dim=16", "heads=2", "mlp=24", "head=16", "dropout=0")
STEPS, RATE = 200, 5e-3


def build(backbone: str, attention: str, grid: Grid = None, length: int = LENGTH) -> Classifier:
    """A small model in float32, in evaluation. Raises SpecError or ConfigError."""
    length = grid[0] * grid[1] if grid else length
    spec = tasks.Spec(vocab=VOCAB, classes=CLASSES, length=length, grid=grid, padded=grid is None)
    entry, options = attention_zoo.find(attention)
    run = replace(_run(backbone, grid is not None), attention=entry, options=options, row=entry.row(options))
    return make_model(run, spec).eval()


@functools.cache
def _run(backbone: str, grid: bool) -> Run:
    sizes = f"model.backbone={backbone}", f"model.grid={grid}", *(f"model.{size}" for size in SIZES)
    return plan(Request(attentions=["softmax"], tasks=["listops"], seeds=[0], protocol="quick", overrides=sizes))[0]


def make(backbone: str, attention: str, grid: Grid = None) -> Classifier:
    """The model in float64, with every parameter moved off its start so that zeros hide nothing."""
    model = build(backbone, attention, grid).double()
    with torch.no_grad():
        generator = torch.Generator().manual_seed(2)
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
    return model


def sample(grid: Grid = None, rows: int = 3, tokens: int = LENGTH, seed: int = 1) -> Tensor:
    """ids (B, N) int64, none of them 0."""
    tokens = grid[0] * grid[1] if grid else tokens
    return torch.randint(1, VOCAB, (rows, tokens), generator=torch.Generator().manual_seed(seed))


def padding(ids: Tensor) -> Tensor:
    """keep (B, N) for rows of length N, 7 and 1."""
    return torch.arange(ids.shape[1]) < torch.tensor([ids.shape[1], 7, 1])[:, None]


def runs(backbone: str, attention: str, grid: Grid = None) -> None:
    """It is built, its body returns (B, M, E) and a mask (B, M) or None, and logits are finite."""
    model, ids = make(backbone, attention, grid), sample(grid)
    assert model.attentions(), "attentions() is empty: it returns every attention, in the order of the layers"
    for keep in (None, padding(ids)):
        logits = model(ids, keep)
        assert logits.shape == (3, CLASSES), f"logits of {tuple(logits.shape)}"
        assert logits.isfinite().all(), "a logit is not finite"
        x, kept = model.body(model.embed(ids), keep)
        assert (kept is None) == (keep is None), "the mask appears or disappears in the body"
        assert kept is None or kept.shape == x.shape[:2], f"a mask of {tuple(kept.shape)} for {tuple(x.shape)}"


def gradients(backbone: str, attention: str, grid: Grid = None) -> None:
    """Every parameter gets a finite gradient; a layer that is made but not used has none."""
    model, ids = make(backbone, attention, grid).train(), sample(grid)
    F.cross_entropy(model(ids, padding(ids)), torch.tensor([0, 1, 2])).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, f"{name} gets no gradient"
        assert parameter.grad.isfinite().all(), f"the gradient of {name} is not finite"


def padding_content(backbone: str, attention: str, grid: Grid = None) -> None:
    """What padding holds changes no logit; merge and convolve zeros there, by torch.where and not by a product."""
    model, ids = make(backbone, attention, grid), sample(grid)
    keep = padding(ids)
    assert_same(model(torch.where(keep, ids, sample(grid, seed=9)), keep), model(ids, keep), "in evaluation")


def padding_amount(backbone: str, attention: str, grid: Grid = None) -> str | None:
    """How much padding follows changes no logit: a row alone, cut to its length, gives what it gives in the batch."""
    if has_one_length(attention, grid):
        return "sequences of one length have no padding"
    model, ids = make(backbone, attention), sample()
    keep = padding(ids)
    together = model(ids, keep)
    for row, length in enumerate(keep.sum(1).tolist()):
        assert_same(model(ids[row : row + 1, :length], None), together[row : row + 1], f"{length} tokens")
    return None


def batch_rows(backbone: str, attention: str, grid: Grid = None) -> None:
    """Rows of a batch do not mix; no norm or statistic over the batch."""
    model, ids = make(backbone, attention, grid), sample(grid)
    keep, other = padding(ids), ids.clone()
    other[1:] = sample(grid, seed=9)[1:]
    assert_same(model(other, keep)[:1], model(ids, keep)[:1], "in evaluation")


def compiled_once(backbone: str, attention: str, grid: Grid = None) -> None:
    """One compilation serves all lengths and rows; branch on no length, and do not pad by a computed amount."""
    one_length = has_one_length(attention, grid)
    for training in (False, True):
        model = build(backbone, attention, grid, length=BATCHES[0][1]).train(training)
        with compiling(), torch.set_grad_enabled(training):
            compiled = torch.compile(model, fullgraph=True, backend=inductor_without_machine_code)
            for rows, tokens in BATCHES:
                tokens = BATCHES[0][1] if one_length else max(tokens, SHORTEST * model.merged)
                ids = sample(grid, rows, tokens)
                keep = None if grid else padding(ids[:3])[:1].expand(rows, -1).contiguous()
                mark_dynamic(ids, keep, one_length=one_length)
                logits = compiled(ids, keep)
                if training:
                    logits.sum().backward()


def overfits(backbone: str, attention: str, grid: Grid = None) -> str:
    """It learns 16 random samples by heart in 200 steps; else gradients do not reach a part, or order is lost."""
    torch.manual_seed(0)
    model, ids = build(backbone, attention, grid).train(), sample(grid, SAMPLES)
    labels = torch.randint(CLASSES, (SAMPLES,), generator=torch.Generator().manual_seed(3))
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE)
    steps = 0
    # judged before the next update, which can undo what has been learned
    while (loss := F.cross_entropy(model(ids, None), labels)) >= 0.02 and steps < STEPS:
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        steps += 1
    correct = int((model.eval()(ids, None).argmax(-1) == labels).sum())
    assert correct == SAMPLES, f"{correct} of {SAMPLES} samples, loss {float(loss):.2f}"
    return f"{steps} steps"


CHECKS: dict[str, Check] = {
    check.__name__: check for check in (runs, gradients, padding_content, padding_amount, batch_rows)
}
THOROUGH: dict[str, Check] = {check.__name__: check for check in (compiled_once, overfits)}


def outcomes(
    backbone: str, attention: str, grid: Grid = None, checks: Mapping[str, Check] = CHECKS | THOROUGH
) -> Iterator[Outcome]:
    """The checks on one backbone with this attention, in order.

    An attention may fail the checks that it declares to fail; it may also pass them inside a backbone.
    """
    reasons = attention_zoo.find(attention)[0].expected_failures
    return attempts(checks, (backbone, attention, grid), reasons, must_fail=False)
