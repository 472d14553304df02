"""The encoder: parameter totals of the published models, shared initial weights, padding, positions."""

import pytest
import torch
from torch.testing import assert_close

import tasks
from lra.backbones.weights import count_parameters
from lra.errors import ConfigError
from lra.experiments.build import make_model
from lra.experiments.plan import Request, plan

LISTOPS = tasks.Spec(vocab=16, classes=10, length=1999)
SMALL = tasks.Spec(vocab=16, classes=10, length=40)


def model_of(attention="softmax", protocol="standard", overrides=(), seed=0, spec=LISTOPS, task="listops"):
    request = Request(attentions=[attention], tasks=[task], seeds=[seed], protocol=protocol, overrides=tuple(overrides))
    return make_model(plan(request)[0], spec).eval()


@pytest.mark.parametrize("protocol", ["skyformer", "nystromformer"])
def test_published_total(protocol):
    """The authors' model has 209,802 parameters on ListOps."""
    counts = count_parameters(model_of(protocol=protocol))
    assert counts["total"] == 209_802
    assert counts["without_embeddings"] == 209_802 - 32 * 64 - 2048 * 64


@pytest.mark.parametrize(
    ("task", "spec", "total"),
    [
        ("text", tasks.Spec(vocab=257, classes=2, length=4000), 370_562),
        ("retrieval", tasks.Spec(vocab=257, classes=2, length=4000, pair=True), 395_138),
        ("image", tasks.Spec(vocab=256, classes=10, length=1024, grid=(32, 32), padded=False), 158_602),
        ("pathfinder", tasks.Spec(vocab=256, classes=2, length=1024, grid=(32, 32), padded=False), 173_954),
    ],
)
def test_skyformer_totals(task, spec, total):
    """On each task the number of parameters equals that of the authors' model."""
    assert count_parameters(model_of(protocol="skyformer", spec=spec, task=task))["total"] == total


@pytest.mark.parametrize(
    ("attention", "more"),
    [("elu", 0), ("flatten", 512), ("pola", 8960), ("agent:conv=5,bias=true", 19_976), ("softmax:conv=5", 2 * 192)],
)
def test_extra_parameters(attention, more):
    """The parameters that a mechanism has beyond two layers of softmax attention."""
    base, other = (count_parameters(model_of(name))["attention"] for name in ("softmax", attention))
    assert other - base == more


def test_shared_weights_start_equal():
    softmax, pola = model_of("softmax").state_dict(), model_of("pola").state_dict()
    assert set(softmax) < set(pola)
    for name, value in softmax.items():
        assert_close(pola[name], value, rtol=0, atol=0, msg=name)
    conv = model_of("elu:conv=5").state_dict()["blocks.1.attention.local.conv.weight"]
    assert_close(pola["blocks.1.attention.local.conv.weight"], conv, rtol=0, atol=0)


def test_start_depends_on_seed_and_layer():
    first, again, other = model_of(seed=0).state_dict(), model_of(seed=0).state_dict(), model_of(seed=1).state_dict()
    name = "blocks.{}.attention.qkv.weight"
    assert_close(first[name.format(0)], again[name.format(0)], rtol=0, atol=0)
    assert not first[name.format(0)].equal(other[name.format(0)])
    assert not first[name.format(0)].equal(first[name.format(1)])


def test_own_parameters_follow_the_mechanism():
    tables = [model_of("agent:bias=true", seed=seed).state_dict()["blocks.0.attention.bias.keys"] for seed in (0, 0, 1)]
    assert tables[0].equal(tables[1])
    assert not tables[0].equal(tables[2])
    assert 0.019 < float(tables[0].std()) < 0.021  # N(0, 0.02), as the authors


@pytest.mark.parametrize("positions", ["learned", "sincos", "rope", "none"])
@pytest.mark.parametrize("attention", ["softmax", "flatten", "pola", "agent"])
def test_padding_does_not_reach_logits(attention, positions):
    model = model_of(attention, "quick", [f"model.positions={positions}"], spec=SMALL).double()
    ids = torch.randint(1, 16, (2, 20), generator=torch.Generator().manual_seed(0))
    keep = torch.arange(20) < torch.tensor([[13], [20]])
    short = model(ids[:1, :13])
    assert_close(model(ids, keep)[:1], short, rtol=0, atol=1e-12)
    if positions != "none" and attention != "agent":
        assert not torch.allclose(model(ids.flip(1)), model(ids)), "positions make no difference"


@pytest.mark.parametrize("positions", ["learned", "sincos"])
def test_a_sequence_longer_than_the_table_of_positions_is_refused(positions):
    model = model_of("softmax", "quick", [f"model.positions={positions}"], spec=SMALL)
    longest = SMALL.length
    with pytest.raises(ValueError, match=f"{longest + 1} tokens, but the model has positions for at most {longest}"):
        model(torch.ones(1, longest + 1, dtype=torch.long))


def test_no_positions_is_order_free():
    model = model_of("softmax", "quick", ["model.positions=none"], spec=SMALL).double()
    ids = torch.randint(1, 16, (2, 20))
    assert_close(model(ids.flip(1)), model(ids), rtol=0, atol=1e-12)


def test_rope_sees_distances_only():
    """Shifting all positions leaves softmax logits q.k alone (Su et al. 2021)."""
    from attention_zoo._parts import rotate

    t = torch.randn(1, 1, 16, dtype=torch.float64).expand(1, 30, 16)
    q, k = rotate(t, 8), rotate(t + 1, 8)
    assert_close((q[0, 5] * k[0, 3]).sum(), (q[0, 25] * k[0, 23]).sum(), rtol=0, atol=1e-12)


def test_pool_over_padding_divides_by_the_length():
    plain = model_of(protocol="quick", spec=SMALL)
    quirk = model_of(protocol="quick", overrides=["model.pool_over_padding=true"], spec=SMALL)
    x = torch.randn(2, 10, 64)
    assert_close(quirk.pool(x, None), plain.pool(x, None) * 10 / 40)


def test_sizes_that_do_not_fit():
    with pytest.raises(ConfigError, match=r"more than model\.vocab=0, model\.length=100"):
        model_of(overrides=["model.length=100"])
    with pytest.raises(ConfigError, match="width 64 is not divisible by 3 heads"):
        model_of(overrides=["model.heads=3"])
    with pytest.raises(ConfigError, match="has an id of its own for padding"):
        model_of(overrides=["model.zero_is_padding=true"])
    with pytest.raises(ConfigError, match="form no grid"):
        model_of(overrides=["model.grid=true"])


def test_pair_head():
    """[a, b, a * b, a - b] of two documents through one encoder; 395,138 parameters as published for Retrieval."""
    spec = tasks.Spec(vocab=257, classes=2, length=4000, pair=True)
    model = model_of(overrides=["model.vocab=512", "model.length=4096"], spec=spec)
    assert count_parameters(model)["total"] == 395_138
    ids = torch.randint(1, 257, (3, 2, 12))
    keep = torch.arange(12) < torch.tensor([[12, 5], [7, 12], [1, 9]])[..., None]
    logits = model(ids, keep)
    assert logits.shape == (3, 2)
    a, b = (model.encode(ids[:, side], keep[:, side]) for side in (0, 1))
    assert_close(logits, model.head(torch.cat((a, b, a * b, a - b), dim=-1)))


@pytest.mark.parametrize("pool", ["mean", "cls", "first"])
def test_pools(pool):
    """Padding reaches no pool; cls adds a token and its position, and reads all others."""
    model = model_of("elu", "quick", [f"model.pool={pool}"], spec=SMALL).double()
    plain = count_parameters(model_of("elu", "quick", spec=SMALL))
    assert count_parameters(model)["total"] - plain["total"] == (2 * 64 if pool == "cls" else 0)
    ids = torch.randint(1, 16, (2, 40), generator=torch.Generator().manual_seed(0))
    keep = torch.arange(40) < torch.tensor([[13], [40]])
    assert_close(model(ids, keep)[:1], model(ids[:1, :13]), rtol=0, atol=1e-12)
    other = ids.clone()
    other[:, 12] = other[:, 12] % 15 + 1
    assert not torch.allclose(model(other, keep), model(ids, keep))
