"""The compiled gear with the real compiler: one graph for every size, which a second process reads from the cache."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import sympy
import torch
from torch import nn
from torch.testing import assert_close

import attention_zoo
import tasks
from lra.experiments.build import make_model, padding_of
from lra.experiments.plan import Request, plan
from lra.training.compiled import Compiled, quiet
from lra.training.device import Device
from lra.training.inductor import code_hash, inductor_for, largest, smallest

# Rows and tokens: totals below and above 4,096, and sizes for which the compiler may write separate code.
SIZES = [(2, 1999), (3, 700), (2, 8), (40, 110), (17, 64), (40, 8), (8, 1999)]


@pytest.mark.slow
@pytest.mark.parametrize("attention", attention_zoo.names())
def test_one_graph_for_every_size(attention):
    """The real compiler's code, new or from its cache, serves every size and computes what the model computes."""
    overrides = ("model.layers=1", "model.dropout=0.0", "train.gear=compiled")
    (run,) = plan(Request(attentions=[attention], tasks=["listops"], seeds=[0], overrides=overrides))
    spec = tasks.Spec(vocab=17, classes=10, length=1999)
    model, padding = make_model(run, spec), padding_of(run, spec)
    model.head[1] = nn.Tanh()  # ReLU's slope jumps at 0, and rounding alone decides what a sum of 1e-8 gets
    parameters = list(model.parameters())
    for _ in range(2):
        torch.compiler.reset()
        gear = Compiled(model, Device(torch.device("cpu")), padding)
        for training in (True, False):
            model.train(training)
            for rows, tokens in SIZES[: 2 if padding.to_full_length else None]:
                tokens = padding.length if padding.to_full_length else tokens
                ids = torch.randint(1, spec.vocab, (rows, tokens), generator=torch.Generator().manual_seed(tokens))
                keep = torch.arange(tokens) < torch.linspace(tokens // 2, tokens, rows).long()[:, None]
                with torch.set_grad_enabled(training), gear.compiling("training" if training else "evaluation"):
                    found = gear.compute(ids, keep)
                    gradients = (
                        torch.autograd.grad(found.square().sum(), parameters, allow_unused=True) if training else ()
                    )
                with torch.set_grad_enabled(training):
                    expected = model(ids, keep)
                assert_close(found, expected, rtol=1e-3, atol=1e-4)
                if training:
                    assert_near(gradients, torch.autograd.grad(expected.square().sum(), parameters, allow_unused=True))
        assert gear.graphs == {"training": 1, "evaluation": 1}
    torch.compiler.reset()


def assert_near(found, expected):
    """Compares all gradients as one vector, because the nearly zero ones have the rounding error of the large ones."""
    found, expected = (torch.cat([g.flatten() for g in gs if g is not None]) for gs in (found, expected))
    assert float((found - expected).norm() / expected.norm()) < 1e-4


SECOND = """
import torch
from torch._dynamo.utils import counters
from lra.training.device import Device, Padding
from lra.training.compiled import Compiled, quiet
from attention_zoo import Dims, find

torch.set_num_threads(1)
entry, options = find("ATTENTION")
model = torch.nn.Sequential()
model.attention = entry.build(Dims(dim=8, heads=2, length=16), options)
model.tokens = torch.nn.Embedding(5, 8)
model.forward = lambda ids, keep: model.attention(model.tokens(ids), keep).sum(1)
gear = Compiled(model, Device(torch.device("cpu")), Padding(length=16))
ids = torch.randint(0, 5, (3, 12))
gear.compute(ids, ids > 0).sum().backward()
with torch.no_grad():
    gear.compute(ids, ids > 0)
counted = counters["aot_autograd"]
print([counted["autograd_cache_" + what] for what in ("miss", "hit", "bypass")])
"""


@pytest.mark.slow
@pytest.mark.parametrize("attention", ["pola", "flatten", "softmax"])
def test_a_second_process_compiles_nothing(attention, tmp_path):
    """Autocast blocks and hand-written gradients do not keep a graph out of the cache."""
    environment = os.environ | {"TORCHINDUCTOR_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(Path(__file__).parents[1])}
    script = SECOND.replace("ATTENTION", attention)
    counts = [
        subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
        for _ in range(2)
    ]
    assert [done.stdout.split("\n")[0] for done in counts] == ["[2, 0, 0]", "[0, 2, 0]"]


def test_an_edit_beside_a_model_is_other_code(tmp_path, monkeypatch):
    """The gradient of a custom operator may be in any file of the folder."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "edited.py").write_text("import torch\n\nclass Mine(torch.nn.Module):\n    pass\n")
    (tmp_path / "operator_of_mine.py").write_text("FACTOR = 1\n")
    import edited  # pyright: ignore[reportMissingImports]

    model = nn.Sequential(edited.Mine(), nn.Linear(2, 2))
    first = code_hash(model)
    assert code_hash(model) == first != code_hash(nn.Sequential(nn.Linear(2, 2)))
    (tmp_path / "operator_of_mine.py").write_text("FACTOR = 2\n")
    assert code_hash(model) != first


def test_sizes_of_the_compiler_are_numbers():
    """In a graph read from the cache, hints of sizes are sympy numbers; a stride may hold max(2, size)."""
    assert (largest(sympy.Integer(3), 2), smallest(sympy.Integer(3), 2, 5)) == (3, 2)
    assert (largest(1.5, 2), smallest(7)) == (2, 7)


def test_a_compiled_dropout_draws_as_an_eager_one():
    """PyTorch's random numbers are used, since the compiler's own take longer in dropout of attention weights."""
    x = torch.ones(64, 64)
    model = nn.Dropout(0.3)
    compiled = torch.compile(model, fullgraph=True, backend=inductor_for(model))
    found = []
    for call in (compiled, model):
        torch.manual_seed(5)
        with quiet():
            found.append(call(x))
    torch.compiler.reset()
    assert torch.equal(*found)
