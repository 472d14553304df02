"""FLOPs against hand-derived formulas, and the growth of every mechanism against its declared cost."""

import pytest
import torch
import torch.nn.functional as F
from asking import asked
from torch import nn

import attention_zoo
from lra.bench.flops import agrees, attention_flops, declared_exponent, exponent, flops, growth
from lra.errors import CountError
from lra.experiments.build import make_model
from lra.experiments.plan import plan
from lra.testing import build_attention
from tasks import Spec

DIM, HEADS = 16, 2


def maker(spec):
    return lambda length: build_attention(spec, dim=DIM, heads=HEADS, length=length)


def test_linear_forward_and_training():
    layer = nn.Sequential(nn.Linear(8, 4), nn.ReLU())
    x = torch.empty(5, 8)
    assert flops(layer, x) == 2 * 5 * 8 * 4
    assert flops(layer, x, training=True) == 2 * flops(layer, x)  # the weight's gradient; x needs none
    assert layer[0].weight.device.type == "cpu"


@pytest.mark.parametrize("length", [64, 256])
def test_attention_equals_the_formula(length):
    """Projections 8 N D^2; softmax 4 N^2 D; a linear state 4 N D K and its normaliser 2 N D."""
    projections = 8 * length * DIM**2
    softmax, elu = (attention_flops(maker(spec), length, dim=DIM) for spec in ("softmax", "elu"))
    assert softmax == projections + 4 * length**2 * DIM
    assert elu == projections + 4 * length * DIM * (DIM // HEADS) + 2 * length * DIM


def test_training_is_three_times_forward_but_for_the_first_layer():
    layer, x = nn.Linear(8, 8), torch.empty(5, 8)
    assert flops(nn.Sequential(layer, nn.Linear(8, 8)), x, training=True) == (2 + 3) * flops(layer, x)


@pytest.mark.parametrize("layer", [nn.Conv1d(6, 6, 5, padding=2, groups=6), nn.Conv1d(6, 4, 3, padding=1, groups=2)])
def test_a_convolution_in_groups_counts_each_gradient_like_the_forward_pass(layer):
    x = torch.empty(2, 6, 40)
    forward = 2 * 2 * 40 * layer.weight.numel()
    assert flops(layer, x) == forward
    assert flops(nn.Sequential(layer, nn.ReLU()), x, training=True) == 2 * forward, "x needs no gradient"
    assert flops(nn.Sequential(nn.Conv1d(6, 6, 1), layer), x, training=True) == 2 * (2 * 2 * 40 * 36) + 3 * forward


def test_fused_attention_with_a_mask_counts():
    class Masked(nn.Module):
        def forward(self, q, mask):
            return F.scaled_dot_product_attention(q, q, q, attn_mask=mask, dropout_p=0.5 if self.training else 0.0)

    q, mask = torch.empty(2, 3, 32, 8), torch.ones(2, 1, 1, 32, dtype=torch.bool)
    assert flops(Masked(), q, mask) == 2 * 2 * 2 * 3 * 32 * 32 * 8


def test_initialisation_may_look_at_values():
    """Agent's bias tables are initialised with trunc_normal_, which redraws values outside its bounds."""
    assert agrees(exponent(maker("agent:bias=true"), dim=DIM), "O(N)")


def test_fourier_transforms_count():
    class Mix(nn.Module):
        def forward(self, x):
            return torch.fft.irfft(torch.fft.rfft(x, dim=1), n=x.shape[1], dim=1) + torch.fft.fft2(x).real

    assert flops(Mix(), torch.empty(2, 64, 16)) == 2 * 2.5 * 2 * 64 * 16 * 6 + 5 * 2 * 64 * 16 * 10


@pytest.mark.parametrize("spec", attention_zoo.names())
def test_growth_is_as_declared(spec):
    """A declared O(N) that computes a dense matrix and masks it would show here as O(N^2)."""
    entry, _ = attention_zoo.find(spec)
    assert entry.cost, f"{spec} declares no cost"
    measured = exponent(maker(spec), dim=DIM)
    assert agrees(measured, entry.cost), f"{spec}: N^{measured:.2f}, declared {entry.cost}"


def test_a_wrong_declaration_is_caught():
    assert not agrees(exponent(maker("softmax"), dim=DIM), "O(N)")
    assert not agrees(exponent(maker("elu"), dim=DIM), "O(N^2)")


@pytest.mark.parametrize(
    ("cost", "slope"),
    [("O(N)", 1), ("O(N w)", 1), ("O(N^2)", 2), ("O(N^1.5)", 1.5), ("O(N sqrt N)", 1.5), ("O(N log N)", 1.085),
     ("O(N log(N))", 1.085), ("O(1)", 0)],
)  # fmt: skip
def test_declared_costs(cost, slope):
    assert declared_exponent(cost, (65_536, 262_144)) == pytest.approx(slope, abs=1e-3)


@pytest.mark.parametrize("cost", ["N", "O()", "O(N + M)", "O(N/2)", "", "O(n)", "O(n^2)", "O(n log n)"])
def test_costs_that_are_none(cost):
    with pytest.raises(CountError, match="not understood"):
        growth(cost, 8)


def test_operations_that_depend_on_values():
    class Choosy(nn.Module):
        def forward(self, x):
            return x * 2 if x.sum().item() > 0 else x

    with pytest.raises(CountError, match="Choosy cannot be counted"):
        flops(Choosy(), torch.ones(2))


def test_a_whole_encoder():
    """The whole encoder costs more than its linear layers, and at this length less than twice as much."""
    run = plan(asked())[0]
    model = make_model(run, Spec(vocab=16, classes=10, length=32))
    ids = torch.zeros(4, 32, dtype=torch.long)
    sizes = [4 * 32 * m.weight.numel() * 2 for m in model.get_submodule("blocks").modules() if isinstance(m, nn.Linear)]
    forward = flops(model, ids)
    assert sum(sizes) < forward < 2 * sum(sizes)
    assert 2.5 * forward < flops(model, ids, training=True) < 3.1 * forward
