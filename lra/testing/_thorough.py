"""The contract's thorough checks: order, cost, precision at real lengths, compilation, training. Seconds for each."""

import copy
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch._dynamo.exc import RecompileError
from torch._subclasses.fake_tensor import FakeTensorMode, UnsupportedFakeTensorException

import attention_zoo
from lra.bench.flops import agrees, exponent
from lra.errors import first_line
from lra.testing._setup import LENGTH, Grid, build_attention, has_one_length, make, padding, sample
from lra.training.inductor import one_code

LONG = 4_096
# Rows and tokens that one compilation must serve; inductor sums more than 4,096 numbers in another way than fewer.
BATCHES = ((3, 96), (2, 50), (4, 17), (3, 31), (45, 93), (5, 64))


def order(spec: str, grid: Grid = None) -> str:
    """Does the order of tokens matter? Where `register(..., ordered=...)` says so, it must be true."""
    attention, x = make(spec, grid), sample(grid)
    permutation = torch.randperm(x.shape[1], generator=torch.Generator().manual_seed(3))
    difference = (attention(x[:, permutation]) - attention(x)[:, permutation]).abs().max()
    ordered = bool(difference > 1e-9)
    declared = attention_zoo.find(spec)[0].ordered
    assert declared is None or declared == ordered, (
        f"declared ordered={declared}, but permuting the tokens {'changes' if ordered else 'only permutes'} the "
        "outputs: a convolution, positions, windows or pooling?"
    )
    return "sees order" if ordered else "blind to order, as softmax is: positions come from the encoder"


def bfloat16_at_4096(spec: str, grid: Grid = None) -> str:
    """bfloat16 autocast at 4,096 tokens stays within 5 % of float32; if it does not, sum and take powers in float32."""
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


def cost(spec: str, grid: Grid = None) -> str:
    """Operations grow with N as `register(..., cost=...)` says; a dense matrix with a mask costs N^2."""
    declared = attention_zoo.find(spec)[0].cost
    assert declared, "no cost is declared: @register(..., cost='O(N)')"

    def build(tokens: int) -> attention_zoo.Attention:
        return build_attention(spec, dim=64, heads=2, length=tokens, grid=(tokens // 64, 64) if grid else None)

    measured = exponent(build, dim=64)
    assert agrees(measured, declared), f"declared {declared}, counted N^{measured:.2f}"
    return f"{declared}, counted N^{measured:.2f}"


def compiles(spec: str, grid: Grid = None) -> None:
    """torch.compile takes forward and backward without a graph break; no .item(), print, or branch on values."""
    attention, x = make(spec, grid).train(), sample(grid).requires_grad_()
    # with the compiler's decompositions, since PyTorch expects other strides of some gradients (elu's) than it makes
    with compiling():
        compiled = torch.compile(attention, fullgraph=True, backend="aot_eager_decomp_partition")
        compiled(x, padding(x)).sum().backward()


def compiled_once(spec: str, grid: Grid = None) -> None:
    """One compilation serves all lengths and rows, in training and in evaluation; branch on no size, round none.

    Inductor does all of its work but the translation into machine code, which takes most of the time.
    """
    one_length = has_one_length(spec, grid)
    for training in (False, True):
        attention = build_attention(spec, grid=grid, length=BATCHES[0][1]).train(training)
        with compiling(), torch.set_grad_enabled(training):
            compiled = torch.compile(attention, fullgraph=True, backend=inductor_without_machine_code)
            for rows, tokens in BATCHES:
                x = sample(grid, rows, BATCHES[0][1] if one_length else tokens).float().requires_grad_(training)
                keep = None if grid else padding(x[:1]).expand(rows, -1).contiguous()
                mark_dynamic(x, keep, one_length=one_length)
                y = compiled(x, keep)
                if training:
                    y.sum().backward()


def mark_dynamic(*tensors: Tensor | None, one_length: bool) -> None:
    """Tells the compiler that the number of rows varies, and that of tokens unless there is one length."""
    for tensor in tensors:
        if tensor is not None:
            torch._dynamo.maybe_mark_dynamic(tensor, 0)
        if tensor is not None and not one_length:
            torch._dynamo.maybe_mark_dynamic(tensor, 1)


@contextmanager
def compiling() -> Iterator[None]:
    """Turns a failed or a second compilation into an AssertionError of one line."""
    torch._dynamo.reset()
    trace = logging.getLogger("torch.__trace")  # it takes time, and fails on some file names
    try:
        with warnings.catch_warnings(), torch._dynamo.config.patch(error_on_recompile=True):
            warnings.simplefilter("ignore")  # the compiler warns about itself
            with mock.patch.object(trace, "handlers", []):
                yield
    except RecompileError as error:
        guard, *where = str(error).strip().splitlines()[-1].partition(": ")[2].split("  # ")
        raise AssertionError(f"compiled again, {' at '.join(where)}; the first serves {guard}") from error
    except Exception as error:
        raise AssertionError(f"{type(error).__name__}: {first_line(error)}") from error
    finally:
        torch._dynamo.reset()


def inductor_without_machine_code(module: Any, inputs: Any) -> Any:
    """A backend that generates kernels, which is when it decides on sizes, but runs the graph's own operations."""
    # imported here, because the import prints warnings
    from torch._functorch._aot_autograd.utils import make_boxed_func
    from torch._inductor import compile_fx, config
    from torch._inductor.async_compile import AsyncCompile

    uncached = {"force_disable_caches": True, "compile_threads": 1}

    def skip(*_: Any, **__: Any) -> Any:
        return lambda *_: None

    def compile_graph(graph: torch.fx.GraphModule, inputs: Any, **rest: Any) -> Any:
        as_it_is = torch.fx.GraphModule(graph, copy.deepcopy(graph.graph))
        with config.patch(uncached), mock.patch.object(AsyncCompile, "cpp_pybinding", skip):
            one_code(compile_fx.compile_fx_inner)(
                graph, inputs, **rest
            )  # a backward pass may be compiled after the patch below has ended
        return make_boxed_func(as_it_is.forward)

    with config.patch(uncached):
        return compile_fx.compile_fx(module, inputs, inner_compile=compile_graph)


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
