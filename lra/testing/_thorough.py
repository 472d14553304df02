"""The contract's thorough checks: precision and cost at real lengths, compilation, training. A few seconds each."""

import warnings

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode, UnsupportedFakeTensorException

import attention_zoo
from lra.testing._setup import LENGTH, Grid, build_attention, make, padding, sample

LONG = 4_096


def order(spec: str, grid: Grid = None) -> str:
    """Does the order of tokens matter? Where `register(..., ordered=...)` says so, it must be true."""
    attention, x = make(spec, grid), sample(grid)
    turn = torch.randperm(x.shape[1], generator=torch.Generator().manual_seed(3))
    moved = (attention(x[:, turn]) - attention(x)[:, turn]).abs().max()
    ordered = bool(moved > 1e-9)
    declared = attention_zoo.find(spec)[0].ordered
    assert declared is None or declared == ordered, (
        f"declared ordered={declared}, but permuting the tokens {'changes the outputs' if ordered else 'only permutes'}"
        " the outputs: a convolution, positions, windows or pooling?"
    )
    return "sees order" if ordered else "blind to order, as softmax is: positions come from the encoder"


def bfloat16_at_4096(spec: str, grid: Grid = None) -> str:
    """bfloat16 autocast at 4,096 tokens stays within 5 % of float32; sum over tokens and take powers in float32."""
    grid = (64, 64) if grid else None
    attention = build_attention(spec, dim=64, heads=2, length=LONG, grid=grid).eval()
    x = torch.randn(1, LONG, 64, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        exact = attention(x)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rough = attention(x).float()
    error = float((rough - exact).norm() / exact.norm())
    assert error < 0.05, f"relative error {error:.3f}"
    return f"relative error {error:.4f}"


def compiles(spec: str, grid: Grid = None) -> None:
    """torch.compile takes forward and backward without a graph break; no .item(), print, or branch on values."""
    torch._dynamo.reset()
    attention = make(spec, grid).train()
    # with the compiler's decompositions, since PyTorch expects other strides of some gradients (elu's) than it makes
    compiled = torch.compile(attention, fullgraph=True, backend="aot_eager_decomp_partition")
    x = sample(grid).requires_grad_()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the compiler's own making
            compiled(x, padding(x)).sum().backward()
    except Exception as error:
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
        raise AssertionError(f"{type(error).__name__}: {reason}") from error
    finally:
        torch._dynamo.reset()


def no_waiting(spec: str, grid: Grid = None) -> None:
    """The host never waits for the device: no .item(), .cpu(), .tolist(), nonzero or boolean indexing in forward."""
    attention, x = make(spec, grid).train(), sample(grid)
    keep = padding(x)
    try:
        if torch.cuda.is_available():
            attention, x, keep = attention.cuda(), x.cuda(), keep.cuda()
            torch.cuda.set_sync_debug_mode("error")
            attention(x, keep).sum().backward()
        else:
            with FakeTensorMode(allow_non_fake_inputs=True) as mode:  # no values there, so that reading one fails
                attention(mode.from_tensor(x), mode.from_tensor(keep))
    except (RuntimeError, NotImplementedError, UnsupportedFakeTensorException) as error:
        raise AssertionError(f"{type(error).__name__}: {' '.join(str(error).split())[:100]}") from error
    finally:
        if torch.cuda.is_available():
            torch.cuda.set_sync_debug_mode("default")


def learns(spec: str, grid: Grid = None) -> str:  # noqa: ARG001  (a sequence is enough)
    """200 steps on a toy task beat chance: the first token must gather which of four symbols is frequent."""
    model = _Reader(build_attention(spec, length=LENGTH + 8).train())
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    generator = torch.Generator().manual_seed(5)
    for _ in range(200):
        ids, labels = _toy(64, generator)
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(ids), labels)
        loss.backward()
        optimizer.step()
    ids, labels = _toy(1_000, generator)
    with torch.inference_mode():
        accuracy = float((model.eval()(ids).argmax(-1) == labels).float().mean())
    assert accuracy > 0.35, f"accuracy {accuracy:.2f}, chance is 0.25: does a token's output depend on other tokens?"
    return f"accuracy {accuracy:.2f}, chance 0.25"


class _Reader(nn.Module):
    """Embedding with positions, x + attention(norm(x)), the first token classified."""

    def __init__(self, attention: attention_zoo.Attention):
        super().__init__()
        dim = attention.dims.dim
        self.tokens, self.positions = nn.Embedding(5, dim), nn.Parameter(0.1 * torch.randn(LENGTH + 8, dim))
        self.norm, self.attention, self.head = nn.LayerNorm(dim), attention, nn.Linear(dim, 4)

    def forward(self, ids: Tensor) -> Tensor:
        """ids (B, N) -> (B, 4)."""
        x = self.tokens(ids) + self.positions
        return self.head((x + self.attention(self.norm(x), None))[:, 0])


def _toy(batch: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """ids (B, N), labels (B,): token 0 asks; each other shows the label with probability 0.4, else any of the four.

    So the label is shown with probability 0.55 in all.
    """
    labels = torch.randint(4, (batch,), generator=generator)
    shape = (batch, LENGTH + 7)
    noise = torch.randint(4, shape, generator=generator)
    symbols = torch.where(torch.rand(shape, generator=generator) < 0.4, labels[:, None], noise)
    return torch.cat((torch.zeros(batch, 1, dtype=torch.int64), symbols + 1), dim=1), labels
