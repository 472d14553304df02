"""`inspect`: probed matrices against matrices from the formulas, numbers by hand, parts of mechanisms, the command."""

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from naive import Row
from naive.agent import agent_bias, pools
from records import make
from torch import Tensor, nn

import attention_zoo
from attention_zoo import Attention, Dims, QKVAttention
from lra.backbones.flat import Encoder
from lra.backbones.pyramid import Pyramid
from lra.backbones.weights import initialise
from lra.cli import main
from lra.config.schema import Model
from lra.inspect import figures, figures_of_one, mechanism_parts, powers, tables, writing
from lra.inspect.calls import Call, Skipped, record_calls
from lra.inspect.encoders import choose
from lra.inspect.findings import examine
from lra.inspect.numbers import describe, effective_rank, numerical_rank, row_entropy
from lra.inspect.probe import NotAMatrixError, probe
from lra.report.figures import style
from lra.results.record import save
from tasks import Spec

SPECS = ["softmax", "relu", "elu", "flatten", "agent:agents=5,bias=true", "agent", "pola", "pola:alpha=5"]
TOKENS, DIM, HEADS = 13, 16, 2


def encoder(make: Any, length: int = 17, grid: tuple[int, int] | None = None, rope: bool = False) -> Encoder:
    """Two layers with fresh weights, in float64; `make` is a spec, or a function from Dims to an attention."""
    if isinstance(make, str):
        entry, options = attention_zoo.find(make)
        return encoder(lambda dims: entry.build(dims, options), length, grid, rope)
    dims = Dims(dim=DIM, heads=HEADS, length=length, grid=grid, rope=rope)
    section = Model(layers=2, dim=DIM, heads=HEADS, mlp=8, head=8, dropout=0.0)
    model = Encoder(section, Spec(vocab=50, classes=3, length=length), lambda *_, **__: make(dims))
    initialise(model, seed=3, embedding_std=1.0, attentions=model.attentions())
    return model.double().eval()


def inputs(padded: bool, tokens: int = TOKENS) -> tuple[Tensor, Tensor | None]:
    ids = torch.randint(1, 50, (1, tokens), generator=torch.Generator().manual_seed(1))
    return ids, torch.arange(tokens)[None] < tokens - 4 if padded else None


def calls(model: Encoder, padded: bool = False, tokens: int = TOKENS) -> list[Call]:
    found = record_calls(model, *inputs(padded, tokens))
    assert all(isinstance(call, Call) for call in found)
    return found  # pyright: ignore[reportReturnType]


def formula(name: str, call: Call, options: dict) -> list[Tensor]:
    """The matrices (H, M, N) of each flow by the published formulas, from x and the parameters."""
    at, real = dict(call.module.named_parameters()), call.real
    q, k, _ = (call.x @ at["qkv.weight"].T + at["qkv.bias"]).chunk(3, dim=-1)

    def heads(t: Tensor) -> Tensor:
        return t.unflatten(-1, (HEADS, -1)).transpose(0, 1)

    def normalise(a: Tensor, eps: float) -> Tensor:
        a = a[:, :, real]
        return a[:, real] / (a[:, real].sum(-1, keepdim=True) + eps)

    if name in ("relu", "elu"):
        q, k = (t.clamp(min=0) if name == "relu" else torch.where(t > 0, t + 1, t.exp()) for t in (q, k))
        return [normalise(heads(q) @ heads(k).mT, 1e-6)]
    if name == "softmax":
        return [(heads(q) @ heads(k).mT / math.sqrt(DIM / HEADS))[:, :, real][:, real].softmax(-1)]
    if name == "flatten":
        u = [(t.clamp(min=0) + 1e-6) / F.softplus(at["scale"]) for t in (q, k)]
        q, k = (t**3 * t.norm(dim=-1, keepdim=True) / (t**3).norm(dim=-1, keepdim=True) for t in u)
        return [normalise(heads(q) @ heads(k).mT, 1e-6 * len(real))]
    if name == "agent":
        return [by_agents(call, heads(q), heads(k), options)]
    q, k = (heads(t / F.softplus(at["scale"])) for t in (q, k))
    r = 1 + options.get("alpha", 3.0) * at["power"].sigmoid()
    q1, q2, k1, k2 = q.clamp(min=0) ** r, (-q).clamp(min=0) ** r, k.clamp(min=0) ** r, (-k).clamp(min=0) ** r
    return [normalise(a, 1e-6 * len(real)) for a in (q1 @ k1.mT + q2 @ k2.mT, q1 @ k2.mT + q2 @ k1.mT)]


def by_agents(call: Call, q: Tensor, k: Tensor, options: dict) -> Tensor:
    options = {"agents": 49} | options
    real, scale = call.real.tolist(), math.sqrt(DIM / HEADS)
    dims: Any = call.module.dims
    row = Row(call.x, call.x, call.x, call.x, real, dict(call.module.named_parameters()), options, dims, "")
    bins = [tokens for tokens in pools(row) if tokens]
    maps = []
    for h in range(HEADS):
        agents = torch.stack([q[h, tokens].mean(0) for tokens in bins])
        b1, b2 = (torch.stack([agent_bias(row, end, h, i) for i in real])[:, : len(bins)] for end in ("key", "query"))
        gather = (agents @ k[h, real].T / scale + b1.T).softmax(-1)
        maps.append((q[h, real] @ agents.T / scale + b2).softmax(-1) @ gather)
    return torch.stack(maps)


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("spec", SPECS)
def test_probed_matrices_are_those_of_the_formulas(spec, padded):
    entry, options = attention_zoo.find(spec)
    found = calls(encoder(spec), padded)
    assert [call.layer for call in found] == ["0", "1"]
    for call in found:
        matrices = probe(call.attend, call.v, call.real)
        expected = formula(entry.name, call, options)
        assert matrices.found == len(expected) == matrices.weights.shape[1]
        torch.testing.assert_close(matrices.weights[..., call.real], torch.stack(expected, dim=1), rtol=0, atol=1e-9)
        assert not matrices.weights[..., len(call.real) :].any()  # no query attends to padding
        assert matrices.error < 1e-12


def test_float32_agrees_to_1e_6():
    for spec in SPECS:
        entry, options = attention_zoo.find(spec)
        (call, *_) = calls(encoder(spec).float())
        expected = torch.stack(formula(entry.name, call, options), dim=1)
        found = probe(call.attend, call.v, channels=[[0], [DIM // HEADS - 1]][: expected.shape[1]])
        torch.testing.assert_close(found.weights, expected, rtol=0, atol=1e-6)


def test_flows_come_apart_by_themselves():
    half = DIM // HEADS // 2
    (call, *_) = calls(encoder("pola"))
    assert probe(call.attend, call.v).channels == [list(range(half)), list(range(half, 2 * half))]
    (call, *_) = calls(encoder("elu"))
    assert probe(call.attend, call.v).channels == [list(range(2 * half))]


def test_the_convolution_is_separate():
    (call, *_) = calls(encoder("elu:conv=5"), padded=True)
    assert call.local is not None
    kernel = dict(call.module.named_parameters())["local.conv.weight"][3, 0]
    found = probe(call.local, call.v, call.real, channels=[[3]]).weights[0, 0]
    expected = torch.zeros(TOKENS - 4, TOKENS)
    for i in range(TOKENS - 4):
        for tap in range(5):
            if 0 <= i + tap - 2 < TOKENS - 4:
                expected[i, i + tap - 2] = kernel[tap]
    torch.testing.assert_close(found, expected.double())
    assert calls(encoder("elu"))[0].local is None


class Doubled(QKVAttention):
    """Squares v, so that no matrix describes it."""

    def attend(self, q, k, v, keep=None):  # noqa: ARG002
        return v**2


class Blended(QKVAttention):
    """Mixes the channels of v."""

    def attend(self, q, k, v, keep=None):  # noqa: ARG002
        return v.flip(-1).mean(2, keepdim=True).expand_as(v)


class PerChannel(QKVAttention):
    """Has another decay, hence another matrix, for each channel."""

    def attend(self, q, k, v, keep=None):  # noqa: ARG002
        steps = torch.arange(v.shape[2], dtype=v.dtype)
        rates = torch.linspace(0.1, 0.9, v.shape[3], dtype=v.dtype)
        weights = rates[:, None, None] ** (steps[:, None] - steps).abs()
        return torch.einsum("cij,bhjc->bhic", weights, v)


class Whole(Attention):
    """Has no q, k, v."""

    def forward(self, x, keep=None):  # noqa: ARG002
        return torch.fft.fft2(x).real


class Elsewhere(QKVAttention):
    """Never calls attend."""

    def forward(self, x, keep=None):  # noqa: ARG002
        return self.out(x)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (Doubled, "not a weighted sum of v"),
        (Blended, "not a weighted sum of v"),
        (Whole, "has no `attend`"),
        (Elsewhere, "outside `attend`"),
    ],
)
def test_what_cannot_be_probed_is_skipped_with_the_reason(kind, reason):
    found = examine("mine", "fresh", encoder(kind), [inputs(False)])
    assert not found.numbers
    assert len(found.notes) == 2  # one for each layer
    assert reason in found.notes[0]


def test_a_matrix_per_channel_shows_some():
    found = examine("mine", "fresh", encoder(PerChannel), [inputs(False)])
    assert {line["channels"] for line in found.numbers} == {"0-0", "2-2", "5-5", "7-7"}
    assert any("8 groups of channels have matrices of their own; 4 are shown" in note for note in found.notes)


def test_recording_leaves_the_model_as_it_was():
    model = encoder("pola")
    before = model(*inputs(True))
    record_calls(model, *inputs(True))
    assert all("attend" not in vars(module) for module in model.modules())
    torch.testing.assert_close(model(*inputs(True)), before, rtol=0, atol=0)
    assert isinstance(record_calls(encoder(Whole), *inputs(False))[0], Skipped)


def test_a_row_sample_is_exact_and_said():
    model = encoder("softmax", length=64)
    (call, *_) = calls(model, tokens=64)
    whole, some = probe(call.attend, call.v), probe(call.attend, call.v, budget=8 * HEADS * 64 * 10)
    assert len(some.rows) == 10
    torch.testing.assert_close(some.weights, whole.weights[:, :, some.rows], rtol=0, atol=0)
    found = examine("softmax", "fresh", model, [inputs(False, 64)], budget=8 * HEADS * 64 * 10)
    assert "softmax: 10 evenly spaced queries of 64, to bound memory" in found.notes


MEMORY = """
import resource, torch
import torch.nn.functional as F
from attention_zoo import linear_attention
from lra.inspect.probe import probe
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
q, k, v = torch.rand(3, 1, 2, 4096, 32, dtype=torch.float64).unbind()
linear_attention(q, k, v)
before = peak()
rows = len(probe(lambda t: linear_attention(q, k, t), v, budget=2**24).rows)
print(rows, peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss has other units elsewhere")
def test_memory_is_bounded():
    """Two heads' matrices of 4,096 tokens are 256 MB; with a budget of 16 MB, the process grows by less than 64 MB."""
    done = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True,
                          cwd=Path(__file__).parent.parent)  # fmt: skip
    rows, grown = done.stdout.split()
    assert int(rows) == 256
    assert float(grown) < 64


def test_numbers_of_known_matrices():
    n = 16
    uniform, one = torch.full((n, n), 1 / n).double(), torch.eye(n).double()
    places = torch.arange(n)
    flat, sharp = (describe(t, places, places, (4, 4)) for t in (uniform, one))
    assert flat["entropy_nats"] == pytest.approx(math.log(n))
    assert flat["entropy_relative"] == pytest.approx(1)
    assert (flat["top_1"], flat["top_8"], flat["top_64"]) == pytest.approx((1 / 16, 0.5, 1))
    assert flat["distance_tokens"] == pytest.approx((n**2 - 1) / (3 * n)) == flat["distance_tokens_uniform"]
    assert (sharp["entropy_nats"], sharp["distance_pixels"], sharp["top_1"]) == pytest.approx((0, 0, 1))
    corner = torch.zeros(n, n).double()
    corner[0, 15] = -2.0
    only = describe(corner, places, places, (4, 4))
    assert only["distance_pixels"] == pytest.approx(math.sqrt(18))
    assert (only["row_sum_min"], only["negative"], only["empty_rows"]) == (-2, 1, 15)
    assert describe(0 * corner, places, places, None) == {"empty_rows": 16}
    half = describe(uniform, places, places[:8], None)
    assert half["padding"] == pytest.approx(0.5)
    assert half["entropy_nats"] == pytest.approx(math.log(8))


def test_ranks():
    values = torch.tensor([1.0, 1, 1, 1, 0, 0]).double()
    assert effective_rank(values) == pytest.approx(4)
    assert numerical_rank(values, 6) == 4
    (call, *_) = calls(encoder("relu", length=64), tokens=64)
    weights = probe(call.attend, call.v).weights[0, 0]
    assert numerical_rank(torch.linalg.svdvals(weights), 64) == DIM // HEADS  # features of a head


def test_power_against_hand_computed_entropies():
    """For q = (1, 1), k = (1, 0) and (0.9, 0.5), entropy rises from p = 1 to 2 and then falls, against the theorem."""
    q, k = torch.ones(1, 1, 2).double(), torch.tensor([[1, 0], [0.9, 0.5]]).double()[:, None]
    found = {p: float(row_entropy(powers.weights("relu", p, q, k))) for p in (1, 2, 3, 5)}
    assert found == pytest.approx({1: 0.6792, 2: 0.6927, 3: 0.6900, 5: 0.6657}, abs=5e-5)
    torch.testing.assert_close(powers.weights("same sign", 3, q, k), powers.weights("relu", 3, q, k))
    assert not powers.weights("opposite sign", 3, q, k).any()


@pytest.mark.parametrize("spec", ["flatten", "pola", "relu"])
def test_signed_q_and_k_are_those_before_the_power(spec):
    (call, *_) = calls(encoder(spec), padded=True)
    at = dict(call.module.named_parameters())
    q = (call.x @ at["qkv.weight"].T + at["qkv.bias"])[call.real, :DIM]
    q = q / F.softplus(at["scale"]) if "scale" in at else q
    torch.testing.assert_close(powers.signed(call)[0].flatten(1), q)
    lines = powers.measure(call)
    assert {line["kernel"] for line in lines} == set(powers.KERNELS)
    first = [line for line in lines if line["power"] == 1]
    assert {line["rows_lowered"] for line in first} == {0.0}
    if spec == "relu":  # at p = 1 the kernel is the mechanism itself
        entropy = row_entropy(probe(call.attend, call.v, call.real).weights[0, 0]).mean()
        assert first[0]["entropy_nats"] == pytest.approx(float(entropy), rel=1e-4)


def test_with_rope_they_are_rotated_as_those_of_the_mechanism():
    """FLatten's features of the signed q and k are what its `attend` receives."""
    (call, *_) = calls(encoder("flatten", rope=True), padded=True)
    for signed, received in zip(powers.signed(call), (call.q, call.k), strict=True):
        features = powers.focus(signed, 3)
        torch.testing.assert_close(features, received[0].transpose(0, 1)[call.real], rtol=1e-3, atol=1e-4)


def test_what_has_no_queries_has_no_powers():
    """The random Synthesizer gets v in place of q and k."""
    (call, *_) = calls(encoder("synthesizer:kind=random"))
    assert not call.has_queries
    assert powers.measure(call) == []
    for spec in ("softmax", "pola", "reformer:bucket=4"):  # reformer's keys are its queries
        (call, *_) = calls(encoder(spec))
        assert call.has_queries


def test_a_gate_is_shown_as_it_multiplies():
    (call, *_) = calls(encoder("mlla"))
    expected = F.silu(call.module.get_submodule("gate")(call.x)).detach()
    torch.testing.assert_close(mechanism_parts.gate(call), expected)


def test_folders_of_long_names_differ():
    names = [f"text-standard[model.dim=128,model.heads=4,{'x' * 60},train.steps={steps}]" for steps in (5000, 9000)]
    assert len({writing._slug(name) for name in names}) == 2
    assert all(len(writing._slug(name)) <= 80 for name in names)


def test_parts_that_only_some_have():
    (call, *_) = calls(encoder("pola:alpha=5"), padded=True)
    values = mechanism_parts.gate(call)
    assert values is not None
    assert values.shape == (TOKENS - 4, DIM)
    assert mechanism_parts.learned(call.module)["power"].unique().tolist() == [3.5]
    assert mechanism_parts.learned(call.module)["scale"].mean() == pytest.approx(math.log(2))
    gate = mechanism_parts.compare_gate("0", values, HEADS, [[0, 1, 2, 3], [4, 5, 6, 7]])
    order = [0, 1, 2, 3, 8, 9, 10, 11, 4, 5, 6, 7, 12, 13, 14, 15]
    torch.testing.assert_close(gate.correlation, torch.corrcoef(values.T)[order][:, order])
    assert gate.numbers()["mean_1"] == pytest.approx(float(values[:, order[8:]].mean()))
    between = torch.corrcoef(values.T)[order[:8]][:, order[8:]].mean()
    assert gate.numbers()["correlation_between"] == pytest.approx(float(between))
    (squashed, *_) = calls(encoder("pola:alpha=5,gate=sigmoid"), padded=True)
    torch.testing.assert_close(mechanism_parts.gate(squashed), values.sigmoid())
    (plain, *_) = calls(encoder("elu"))
    assert mechanism_parts.gate(plain) is None
    assert not mechanism_parts.learned(plain.module)
    assert mechanism_parts.focusing(plain) is None


def test_focusing_sharpens():
    (call, *_) = calls(encoder("flatten"))
    found = mechanism_parts.focusing(call)
    assert found is not None
    assert (found["q after"] < found["q before"]).all()


@pytest.mark.parametrize(("spec", "grid"), [("agent:agents=5,bias=true", None), ("agent:agents=4,bias=true", (3, 4))])
def test_two_maps_multiply_to_the_matrix(spec, grid):
    tokens = 12
    (call, *_) = calls(encoder(spec, tokens, grid), tokens=tokens)
    matrices = probe(call.attend, call.v)
    maps = mechanism_parts.two_maps(call, matrices.weights[:, 0], matrices.rows)
    assert maps is not None
    gather, read = maps
    torch.testing.assert_close(read @ gather, matrices.weights[:, 0])
    wrong = matrices.weights[:, 0].roll(1, dims=-1)
    assert mechanism_parts.two_maps(call, wrong, matrices.rows) is None


def test_the_maps_of_every_head_of_a_pyramid_are_drawn():
    """A later stage has more heads, and fewer tokens."""
    entry, options = attention_zoo.find("agent:agents=3")

    def make(*_: Any, **given: Any) -> Attention:
        return entry.build(Dims(**{name: given[name] for name in ("dim", "heads", "length")}), options)

    section = Model(layers=2, dim=DIM, heads=HEADS, mlp=8, head=8, dropout=0.0)
    model = Pyramid(section, Spec(vocab=50, classes=3, length=TOKENS), make).double().eval()
    found = examine("agent", "fresh", model, [inputs(False)])
    (picture,) = [each for each in figures_of_one.figures_of(found, "here") if each.name == "agents-agent"]
    figure = Figure()
    picture.draw(figure)
    titles = {axes.get_title(loc="left") for axes in figure.axes} - {"read", ""}
    heads = {"0": HEADS, "1": 2 * HEADS}
    assert titles == {f"layer {layer}, head {head}: gather" for layer in heads for head in range(heads[layer])}


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("runs")
    tiny = str(Path(__file__).parent / "tiny.yaml")
    given = ["--attn", "agent:agents=3", "pola", "--task", "listops", "--protocol", tiny, "--out", str(out)]
    assert main([*given, "--set", "train.steps=4", "train.warmup=1", "train.evaluate_every=4"]) == 0
    return out


def test_command_on_runs(runs, tmp_path, capsys):
    assert main(["inspect", "--run", str(runs), "--samples", "2", "--out", str(tmp_path / "a")]) == 0
    printed = capsys.readouterr().out
    assert "| agent:agents=3 |" in printed
    (folder,) = (tmp_path / "a").iterdir()
    index = json.loads((folder / "figures.json").read_text())
    assert [subject["row"] for subject in index["subjects"]] == ["agent:agents=3", "pola"]
    assert index["trained"] is True
    for figure in index["figures"]:
        assert figure["title"]
        assert figure["alt"]
        assert (folder / figure["file"]).read_bytes().startswith(b"\x89PNG")
        assert b"<svg" in (folder / figure["svg"]).read_bytes()[:500]
    names = {figure["file"] for figure in index["figures"]}
    assert names >= {"entropy.png", "spectrum.png", "powers.png", "gate-pola.png", "power-pola.png",
                     "agents-agent.agents=3.png", "matrices-pola.png"}  # fmt: skip
    lines = (folder / "numbers.csv").read_text().splitlines()
    assert "entropy_relative" in lines[0]
    assert any(",same," in line for line in lines)
    again = ["inspect", "--attn", "pola", "--run", *map(str, runs.glob("*.json"))]
    assert main([*again, "--samples", "2", "--out", str(tmp_path / "b")]) == 0
    other = tmp_path / "b" / folder.name
    assert [s["row"] for s in json.loads((other / "figures.json").read_text())["subjects"]] == ["pola"]
    for name in ("matrices-pola.png", "matrices-pola.svg", "gate-pola.png", "gate-pola.svg", "power-pola.svg"):
        assert (folder / name).read_bytes() == (other / name).read_bytes()


@pytest.mark.usefixtures("undrawn")
def test_command_on_fresh_weights(tmp_path, tiny, capsys):
    given = ["inspect", "--attn", "flatten", "softmax+pola", "--task", "listops", "--protocol", tiny, "--samples", "1"]
    assert main([*given, "--out", str(tmp_path)]) == 0
    assert "| softmax+pola " in capsys.readouterr().out
    folder = tmp_path / "listops-tiny-fresh"
    assert (folder / "focusing-flatten.png").exists()
    flows = {line.split(",")[1]: set() for line in (folder / "numbers.csv").read_text().splitlines()[1:]}
    for line in (folder / "numbers.csv").read_text().splitlines()[1:]:
        attention, layer, _, flow = line.split(",")[:4]
        flows[layer] |= {flow} if attention == "softmax+pola" else set()
    assert flows == {"0": {"all"}, "1": {"same", "opposite"}}  # each layer of a hybrid is read as its own mechanism


@pytest.mark.usefixtures("undrawn")
def test_command_with_a_row_that_cannot_be_read(tmp_path, tiny, capsys):
    given = ["inspect", "--task", "listops", "--protocol", tiny, "--samples", "1"]
    assert main([*given, "--attn", "fnet", "softmax", "--out", str(tmp_path / "beside")]) == 0
    shown = capsys.readouterr()
    assert "| softmax " in shown.out
    assert "fnet, layer 0: skipped" in shown.out + shown.err
    folder = tmp_path / "beside" / "listops-tiny-fresh"
    assert (folder / "spectrum.png").exists()
    assert not (folder / "matrices-fnet.png").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--attn", "elu"], "needs --attn and --task"),
        (["--attn", "elu", "--task", "listops", "--samples", "0"], "--samples must be at least 1"),
        (["--attn", "eul", "--task", "listops"], "unknown attention 'eul'"),
        (["--run", "nowhere"], "no finished run of these attentions and tasks in nowhere"),
        (["--run", "nowhere", "--protocol", "quick"], "inspect --run does not take --protocol; it takes --run"),
        (["--run", "nowhere", "--seed", "0"], "inspect --run does not take --seed"),
    ],
)
def test_mistakes(arguments, message, capsys, tmp_path):
    assert main(["inspect", *arguments, "--out", str(tmp_path)]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("undrawn")
def test_a_damaged_record_is_named(runs, capsys, tmp_path):
    for file in runs.glob("*.json"):
        (tmp_path / file.name).write_text(file.read_text())
    (tmp_path / "work").symlink_to(runs / "work")
    (tmp_path / "damaged.json").write_text("{")
    assert main(["inspect", "--run", str(tmp_path), "--samples", "1", "--out", str(tmp_path / "out")]) == 0
    assert f"skipped: {tmp_path / 'damaged.json'}" in capsys.readouterr().err


def test_a_run_that_is_not_there(runs, capsys, tmp_path):
    assert main(["inspect", "--attn", "elu", "--run", str(runs), "--out", str(tmp_path)]) == 2
    assert f"no finished run of elu in {runs}" in capsys.readouterr().err


@pytest.mark.usefixtures("undrawn")
def test_a_family_takes_the_runs_that_are_there(runs, capsys, tmp_path):
    given = ["inspect", "--run", str(runs), "--samples", "1", "--out", str(tmp_path), "--attn"]
    assert main([*given, "family:recurrent"]) == 2
    assert f"no finished run of these attentions and tasks in {runs}" in capsys.readouterr().err
    assert main([*given, "family:linear", "elu"]) == 2
    assert f"no finished run of elu in {runs}" in capsys.readouterr().err
    assert main([*given, "family:linear", "agent:agents=3"]) == 0
    text = capsys.readouterr().out
    assert "| pola " in text
    assert "| agent:agents=3 " in text


def test_no_text_is_cut_and_none_covers_another(monkeypatch):
    """Figures with a long protocol name, of one row and of several rows."""
    where = "listops, quick[train.steps=30, train.warmup=0, data.train_rows=300]"
    specs = ("softmax", "pola", "agent:agents=5", "flatten")
    found = [examine(spec, "trained, seed 0, test 17.4 %", encoder(spec), [inputs(False)]) for spec in specs]
    drawn = []

    def save(figure, name, kinds):
        figure.draw_without_rendering()
        drawn.append(name)
        texts = list(figure.texts)
        for axes in figure.axes:
            texts += [axes.xaxis.label, axes.yaxis.label, axes.title, axes._left_title]
            ticks = [label.get_text() for label in (*axes.get_xticklabels(), *axes.get_yticklabels())]
            assert not any("$" in tick for tick in ticks), ticks  # formulas are not set
        for part in [text for text in texts if text.get_text()] + figure.legends:
            corners = part.get_window_extent().corners()
            assert figure.bbox.padded(1).count_contains(corners) == 4, (name, part)
        title = figure.texts[0].get_window_extent()
        assert not any(title.overlaps(part.get_window_extent()) for part in (*figure.axes, *figure.legends))
        return dict.fromkeys(kinds, b"")

    monkeypatch.setattr(style, "save", save)
    pictures = [picture for one in found for picture in figures_of_one.figures_of(one, where)]
    for some in (found[:1], found):
        pictures += figures.compare(some, tables.numbers(some), tables.powers(some), where)
    for picture in pictures:
        picture.render()
    assert len(drawn) == len(pictures) > 15


def test_not_a_matrix_is_an_error_of_its_own():
    with pytest.raises(NotAMatrixError, match="off by"):
        probe(lambda v: v**2, torch.randn(1, 1, 5, 4, dtype=torch.float64))


def test_modules_are_named_by_their_parameters_only():
    """A module of another kind that has a `gate` is read like PolaFormer's."""

    class Gated(QKVAttention):
        def __init__(self, dims):
            super().__init__(dims)
            self.gate = nn.Linear(dims.dim, dims.dim)

        def attend(self, q, k, v, keep=None):  # noqa: ARG002
            return v

    found = examine("mine", "fresh", encoder(Gated), [inputs(False)])
    assert [gate.layer for gate in found.gates] == ["0", "1"]
    assert "correlation_between" not in found.gates[0].numbers()


def test_of_several_versions_the_newest_is_taken(tmp_path, capsys):
    """The newest version is taken whatever its seeds are."""
    for seed, code, created in ((0, "old1", "2026-01-01"), (1, "new2", "2026-02-01"), (2, "new2", "2026-03-01")):
        attention = {"name": "mine", "source_hash": code}
        save(make("mine", 0.4, seed=seed, attention=attention, created=created), tmp_path)
    (chosen,) = choose([tmp_path], [], [], []).values()
    assert (chosen.seed, chosen.attention["source_hash"]) == (1, "new2")
    assert "1 run of another version left out" in capsys.readouterr().err


def test_rows_of_one_figure_have_the_same_data(tmp_path, capsys):
    data = {"hash": "1" * 64, "rows": {"test": 4000}}
    save(make("softmax", 0.4, data=data, created="2026-01-01"), tmp_path)
    for row, created in (("elu", "2026-01-01"), ("softmax", "2026-02-01"), ("pola", "2026-03-01")):
        save(
            make(row, 0.4, seed=1, data={**data, "hash": "2" * 64} if row != "elu" else data, created=created), tmp_path
        )
    chosen = choose([tmp_path], [], [], []).values()
    assert [(record.row, record.data["hash"][0]) for record in chosen] == [("softmax", "2"), ("pola", "2")]
    printed = capsys.readouterr().err
    assert "listops elu: left out, its runs have other data" in printed
    assert "listops softmax: 1 run of another version left out" in printed


def test_a_users_attention_of_a_wrong_shape_is_one_line(tmp_path, tiny, capsys):
    path = tmp_path / "mine.py"
    path.write_text(WRONG)
    given = ["inspect", "--task", "listops", "--protocol", tiny, "--samples", "1", "--out", str(tmp_path / "out")]
    assert main([*given, "--attn", str(path)]) == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("error: mine: ")
    assert last.endswith(f"python run_lra.py check {path}")


WRONG = """
from attention_zoo import QKVAttention, register

@register("mine", title="Mine")
class Mine(QKVAttention):
    def attend(self, q, k, v, keep):
        return v[..., :-1]
"""


class Looped(Encoder):
    """Runs its blocks twice, and lists each attention twice."""

    def body(self, x, keep):
        return super().body(*super().body(x, keep))

    def attentions(self):
        return [*super().attentions(), *super().attentions()]


def test_each_call_of_a_module_has_the_input_of_its_own_pass():
    model = encoder("pola")
    model.__class__ = Looped
    found = calls(model)
    assert [call.layer for call in found] == ["0.0", "0.1", "1.0", "1.1"]
    assert not torch.equal(found[0].x, found[1].x)
    for call in found:
        q, *_ = call.module.get_submodule("qkv")(call.x).chunk(3, dim=-1)
        torch.testing.assert_close(call.q[0].transpose(0, 1).flatten(1), q)


class GatePerHead(QKVAttention):
    """Has parts with the names of PolaFormer's and other sizes."""

    def __init__(self, dims):
        super().__init__(dims)
        self.gate, self.scale = nn.Linear(dims.dim, dims.heads), nn.Parameter(torch.ones(()))
        self.power, self.alpha = nn.Parameter(torch.zeros(dims.heads, 1, 1)), 3.0

    def attend(self, q, k, v, keep=None):
        return attention_zoo.softmax_attention(q, k, v, keep)


def test_parts_of_other_sizes_are_not_read_as_those_of_pola():
    (call, *_) = calls(encoder(GatePerHead))
    assert mechanism_parts.gate(call) is None
    assert mechanism_parts.learned(call.module) == {}
    for before_powers, received in zip(powers.signed(call), (call.q, call.k), strict=True):
        torch.testing.assert_close(before_powers, received[0].transpose(0, 1))
    assert examine("mine", "fresh", encoder(GatePerHead), [inputs(False)]).numbers


@pytest.mark.parametrize("spec", ["mean", "local_conv"])
def test_what_ignores_its_queries_has_no_powers(spec):
    (call, *_) = calls(encoder(spec))
    assert not call.has_queries
    assert powers.measure(call) == []


def test_empty_rows_are_left_out_of_the_comparison():
    """local_conv's own matrix is zero: all that it mixes is its convolution."""
    both = [examine(spec, "fresh", encoder(spec), [inputs(False)]) for spec in ("softmax", "local_conv")]
    numbers = tables.numbers(both)
    assert tables.sharpest(numbers).count(",") == 0
    assert set(numbers["attention"]) == {"softmax", "local_conv"}
    pictures = {picture.name: picture for picture in figures.compare(both, numbers, tables.powers(both), "here")}
    assert pictures.keys() == {"entropy", "spectrum", "reach", "powers"}
    assert all(picture.render() for picture in pictures.values())
    for name in ("entropy", "reach"):
        figure = Figure()
        pictures[name].draw(figure)
        assert {label.get_text() for axes in figure.axes for label in axes.get_yticklabels()} == {"softmax"}
    alone = both[1:]
    assert figures.compare(alone, tables.numbers(alone), tables.powers(alone), "here") == []


def test_pixels_of_merged_tokens_are_those_of_the_image():
    places, uniform = torch.arange(16), torch.full((16, 16), 1 / 16, dtype=torch.float64)
    plain, merged = (describe(uniform, places, places, (4, 4), pixels) for pixels in (1.0, 2.0))
    assert merged["distance_pixels"] == pytest.approx(2 * plain["distance_pixels"])
    assert merged["distance_tokens"] == plain["distance_tokens"]
