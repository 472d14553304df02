"""Backbones: padding has no effect with any attention; merging, stages, hybrids by stage, users' files."""

import pickle
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from asking import run_grid
from steps import CPU, gradient
from torch.testing import assert_close

import attention_zoo
import tasks
from lra.backbones import Classifier, names, registry
from lra.backbones.pyramid import Merge
from lra.backbones.weights import COMMON
from lra.cli import main
from lra.commands import settings_page
from lra.config.resolve import config_hash
from lra.errors import ConfigError
from lra.experiments.build import make_model, padding_of
from lra.experiments.data import load_task_data
from lra.experiments.load import load_run
from lra.experiments.plan import Request, plan
from lra.inspect.calls import Call, record_calls
from lra.results.record import load
from lra.testing import backbones
from lra.training.compiled import Compiled
from lra.training.eager import Eager

GRID = (4, 6)
LISTOPS = tasks.Spec(vocab=16, classes=10, length=64)
IMAGE = tasks.Spec(vocab=256, classes=10, length=1024, grid=(32, 32), padded=False)
TINY = ("train.steps=4", "train.warmup=1", "train.batch=8", "train.evaluate_every=4", "data.train_rows=64",
        "data.validation_rows=16", "data.test_rows=16", "model.dim=16", "model.mlp=16")  # fmt: skip
SIDES = pytest.mark.parametrize("grid", [None, GRID], ids=["sequence", "grid"])


def planned(attention="softmax", *overrides, protocol="quick", task="listops", backbone="pyramid"):
    overrides = (f"model.backbone={backbone}", *overrides)
    return plan(Request(attentions=[attention], tasks=[task], seeds=[0], protocol=protocol, overrides=overrides))[0]


@SIDES
@pytest.mark.parametrize("attention", attention_zoo.names())
@pytest.mark.parametrize("backbone", names())
def test_every_attention_in_every_backbone(backbone, attention, grid):
    for outcome in backbones.outcomes(backbone, attention, grid, backbones.CHECKS):
        assert not outcome.bad, f"{outcome.check}: {outcome.note}"


@SIDES
@pytest.mark.parametrize("attention", ["softmax", "pola"])
@pytest.mark.parametrize("backbone", names())
def test_overfits(backbone, attention, grid):
    backbones.overfits(backbone, attention, grid)


@pytest.mark.slow
@SIDES
@pytest.mark.parametrize("attention", attention_zoo.names())
@pytest.mark.parametrize("backbone", names())
def test_every_attention_thoroughly(backbone, attention, grid):
    for outcome in backbones.outcomes(backbone, attention, grid, backbones.THOROUGH):
        assert not outcome.bad, f"{outcome.check}: {outcome.note}"


@pytest.mark.parametrize("options", ["norm=post", "parallel=true"])
def test_other_blocks_of_the_flat_encoder(options):
    run = planned("pola", f"model.{options}", backbone="flat")
    assert run.protocol == f"quick[model.{options.replace('true', 'True')}]"
    model = make_model(run, LISTOPS)
    assert isinstance(model.norm, torch.nn.Identity) == (options == "norm=post")
    ids = torch.randint(1, 16, (2, 20))
    model(ids).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_blocks_by_their_formulas():
    x = torch.randn(2, 5, 64)
    block = make_model(planned(backbone="flat"), LISTOPS).get_submodule("blocks.0")
    parts = [getattr(block, name) for name in ("attention_norm", "attention", "mlp_norm", "mlp")]
    norm1, attention, norm2, mlp = parts
    middle = x + attention(norm1(x))
    assert_close(block(x, None), middle + mlp(norm2(middle)))
    setattr(block, "parallel", True)  # noqa: B010
    assert_close(block(x, None), x + attention(norm1(x)) + mlp(norm2(x)))
    setattr(block, "parallel", False)  # noqa: B010
    setattr(block, "post", True)  # noqa: B010
    middle = norm1(x + attention(x))
    assert_close(block(x, None), norm2(middle + mlp(middle)))


@pytest.mark.parametrize("kind", ["concat", "conv"])
@pytest.mark.parametrize("grid", [None, (5, 7)])
def test_merge_by_its_formula(kind, grid):
    """A loop over merged tokens and their parts; parts beyond the end or at padding are zero."""
    tokens = 35 if grid else 22
    merge = Merge(3, 6, 4, kind, grid).double()
    x, keep = torch.randn(2, tokens, 3, dtype=torch.float64), torch.rand(2, tokens) < 0.5
    y, kept = merge(x, keep)
    if grid:
        cells = [(r, c) for r in range(0, 5, 2) for c in range(0, 7, 2)]
        parts = [
            [7 * (r + i) + c + j if r + i < 5 and c + j < 7 else None for i in (0, 1) for j in (0, 1)] for r, c in cells
        ]
    else:
        parts = [[n if n < tokens else None for n in range(m, m + 4)] for m in range(0, tokens, 4)]
    for row in range(2):
        for m, places in enumerate(parts):
            zero = torch.zeros(3, dtype=torch.float64)
            part = torch.cat([x[row, n] if n is not None and keep[row, n] else zero for n in places])
            assert_close(y[row, m], merge.last(merge.merge(merge.first(part))), rtol=0, atol=1e-12)
            assert kept[row, m] == any(n is not None and bool(keep[row, n]) for n in places)


def test_conv_is_a_strided_convolution():
    merge = Merge(3, 6, 4, "conv", (4, 6))
    x = torch.randn(2, 24, 3)
    conv = torch.nn.Conv2d(3, 6, 2, stride=2)
    conv.load_state_dict({"weight": merge.merge.weight.view(6, 2, 2, 3).permute(0, 3, 1, 2), "bias": merge.merge.bias})
    image = conv(x.transpose(1, 2).unflatten(-1, (4, 6))).flatten(2).transpose(1, 2)
    assert_close(merge(x, None)[0], merge.last(image))


def test_stages_widen_and_merge():
    run = planned("pola", "model.layers=4", "model.stages=[1,2,1]", "model.grid=true", task="image")
    model = make_model(run, IMAGE)
    dims = [getattr(attention, "dims") for attention in model.attentions()]  # noqa: B009
    assert [d.dim for d in dims] == [64, 128, 128, 256]
    assert [d.heads for d in dims] == [2, 4, 4, 8]
    assert [d.grid for d in dims] == [(32, 32), (16, 16), (16, 16), (8, 8)]
    assert [d.length for d in dims] == [1024, 256, 256, 64]
    assert [d.layer for d in dims] == [0, 0, 1, 0], "mechanisms that take turns begin anew in each stage"
    assert model.merged == 16
    assert model(torch.zeros(2, 1024, dtype=torch.long)).shape == (2, 10)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model.stages=2"], r"model\.stages must be a list, as in \[2,4\], not 2"),
        (["model.stages=[2,2]"], r"model\.stages=\[2, 2\] has 4 layers, but model\.layers=2: set both"),
        (["model.stage_heads=[2]"], r"give one number for each of the 2 stages"),
        (["model.stage_heads=[2,3]"], r"stage 2: width 128 is not divisible by 3 heads"),
        (["model.parts=0"], r"model\.parts=0, model\.widen=2: both must be at least 1"),
        (["model.pool=cls"], r"set model\.pool=mean"),
        (["model.parts=3", "model.grid=true"], r"on a grid it must be a square number"),
    ],
)
def test_mistakes(overrides, message):
    with pytest.raises(ConfigError, match=message):
        make_model(planned("softmax", *overrides, task="image"), IMAGE)


def test_the_label_and_the_hash_say_the_backbone():
    plain, pyramid = planned(backbone="flat"), planned()
    assert plain.protocol == "quick"
    assert config_hash(plain.config) == "0a3a6f2f29ee", "of the records made before there were backbones"
    assert pyramid.protocol == "quick[model.backbone=pyramid]"
    assert planned("softmax", "model.layers=3", "model.stages=[1,2]").protocol.endswith(
        "backbone=pyramid,model.stages=[1,2]]"
    )
    assert config_hash(pyramid.config) != config_hash(plain.config)
    assert pickle.loads(pickle.dumps(pyramid.config)) == pyramid.config, "workers are sent it"


def test_gears_agree_on_a_pyramid():
    """One graph serves every shape; a short micro-batch is padded until enough merged tokens remain."""
    run = planned("pola", *TINY, "data.train_rows=100")
    data, graphs = load_task_data("listops", run.config, None).data, []
    model, padding = make_model(run, data.spec), padding_of(run, data.spec)
    torch.compiler.reset()
    gear = Compiled(model, CPU, padding, backend=lambda module, _: (graphs.append(module), module.forward)[1])
    shortest = np.argsort(data.train.lengths)[:9]
    for rows in (np.arange(60), np.arange(7), shortest, np.arange(90)):
        eager = gradient(Eager(model, CPU, padding), model, data.train, rows)
        assert_close(gradient(gear, model, data.train, rows), eager, rtol=1e-5, atol=1e-6)
    assert len(graphs) == 1


def test_inspect_sees_every_stage():
    model = make_model(planned("pola", "model.grid=true", task="image"), IMAGE)
    calls = record_calls(model, torch.zeros(1, 1024, dtype=torch.long), None)
    assert [(call.layer, call.v.shape[2]) for call in calls if isinstance(call, Call)] == [("0", 1024), ("1", 256)]


def test_rotary_positions_count_merged_tokens():
    model = make_model(planned("softmax", "model.positions=rope"), LISTOPS)
    ids = torch.randint(1, 16, (2, 30))
    assert not torch.allclose(model(ids), model(ids.flip(1)))


def test_a_hybrid_by_stage():
    run = planned("pola*1+softmax", "model.layers=3", "model.stages=[2,1]")
    assert run.row == "pola*1+softmax*1"
    kinds = [type(attention).__name__ for attention in make_model(run, LISTOPS).attentions()]
    assert kinds == ["PolaAttention", "PolaAttention", "SoftmaxAttention"]
    flat = make_model(planned("pola*3+softmax", "model.layers=4", backbone="flat"), LISTOPS).attentions()
    assert [type(a).__name__ for a in flat] == ["PolaAttention"] * 3 + ["SoftmaxAttention"]
    by_layer = make_model(planned("pola+softmax", "model.layers=3", "model.stages=[2,1]"), LISTOPS).attentions()
    assert [type(a).__name__ for a in by_layer] == ["PolaAttention", "SoftmaxAttention", "PolaAttention"]
    with pytest.raises(attention_zoo.SpecError, match=r"names mechanisms for 4 stages, but pyramid has 2"):
        make_model(planned("pola*3+softmax"), LISTOPS)


def test_what_is_read_from_a_file_is_what_it_registers():
    for name in names():
        backbone = registry.read_builtin(name)
        registry.class_of(backbone)
        assert registry.registered[backbone.path, name] == backbone


def test_the_page_has_the_keys_and_defaults_of_the_built_ins():
    rows = {line.split("|")[2].strip(): line for line in PAGE.splitlines() if "| `model." in line}
    keys = {f"`model.{key}`": about for name in names() for key, about in registry.read_builtin(name).keys.items()}
    assert rows.keys() == keys.keys()
    for key, (_, default) in keys.items():
        assert f"| {settings_page.word(default)} |" in rows[key], key


PAGE = (Path(__file__).parent.parent / "docs" / "add-a-backbone.md").read_text(encoding="utf-8")
USERS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)[0]  # the listing of the page


def test_a_users_backbone(tmp_path, monkeypatch):
    """It is named by its path, has its own keys, and can be built again from its record."""
    monkeypatch.setenv("LRA_CACHE", str(tmp_path / "cache"))
    file = tmp_path / "looped.py"
    file.write_text(USERS)
    request = Request(
        attentions=["elu"],
        tasks=["listops"],
        seeds=[0],
        protocol="quick",
        overrides=(f"model.backbone={file}", "model.rounds=3", *TINY),
        out=tmp_path / "runs",
    )
    (record,) = run_grid(request)
    assert record.status == "done"
    assert record.config["model"]["backbone"].startswith("looped@")
    assert record.config["model"]["rounds"] == 3
    assert record.backbone["source"] == USERS
    assert "model.backbone=looped@" in record.protocol
    path = tmp_path / "runs" / f"{record.name}.json"
    assert load(path) == record
    file.unlink()
    loaded = load_run(path)
    model = loaded.model(tasks.Spec(vocab=16, classes=10, length=59))
    assert type(model).__name__ == "Looped"
    assert getattr(model, "rounds") == 3  # noqa: B009


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1", r"registers no backbone: put @register"),
        (USERS.replace('"looped"', '"flat"'), r"the name 'flat' is taken by a built-in backbone"),
        (USERS.replace(", title=", ", tilte="), r"unexpected keyword argument 'tilte'"),
        (USERS.replace(" = 2)", ")"), r"rounds of build_body needs a type and a default"),
        (USERS.replace("rounds: int", "layers: int"), r"model\.layers is a key of every backbone"),
    ],
)
def test_mistakes_in_a_users_file(tmp_path, text, message):
    file = tmp_path / "mine.py"
    file.write_text(text)
    with pytest.raises(ConfigError, match=message):
        planned(backbone=file)


def test_a_mechanisms_own_weights_stay_whatever_the_attribute_is_called(tmp_path):
    """Only `qkv`, `out`, `gate` and `local` are drawn anew, by their full names."""
    file = tmp_path / "mixing.py"
    file.write_text(MIXING)
    own = 0
    for attention in attention_zoo.names():
        usual, mixing = (make_model(planned(attention, backbone=name), LISTOPS) for name in ("flat", str(file)))
        expected = usual.attentions()[0].state_dict()
        for name, value in mixing.attentions()[0].state_dict().items():
            if name.split(".")[0] not in COMMON:
                assert_close(value, expected[name], rtol=0, atol=0)
                own += isinstance(usual.attentions()[0].get_submodule(name.rpartition(".")[0]), torch.nn.Linear)
    assert own, "linear layers of mechanisms are among them"


MIXING = """
from lra.backbones import Classifier, register
from torch import nn

@register("mixing", title="Mixing")
class Mixing(Classifier):
    def build_body(self, model, make_attention):
        self.mixers = nn.ModuleList(make_attention(layer) for layer in range(model.layers))
        return model.dim

    def body(self, x, keep):
        for mixer in self.mixers:
            x = x + mixer(x, keep)
        return x, keep

    def attentions(self):
        return [*self.mixers]
"""


def test_what_a_backbone_draws_depends_on_the_seed_alone(tmp_path):
    """Neither on what the process drew before, nor on the mechanism."""
    file = tmp_path / "drawing.py"
    drawing = MIXING.replace("mixing", "drawing").replace(
        "        return model.dim\n",
        "        self.gru, self.scale = nn.GRU(model.dim, 4), nn.Parameter(torch.rand(3))\n        return model.dim\n",
    )
    file.write_text(
        "import torch\n" + drawing.replace("self.mixers =", "self.first = nn.GRU(4, 4)\n        self.mixers =")
    )

    def own(attention: str, seed: int = 0) -> list[torch.Tensor]:
        torch.rand(5)
        model = make_model(replace(planned(attention, backbone=str(file)), seed=seed), LISTOPS)
        return [value for name, value in model.state_dict().items() if name.startswith(("first", "gru", "scale"))]

    first, again, other = own("softmax"), own("softmax"), own("synthesizer")
    assert len(first) == 9
    assert_close(first, again, rtol=0, atol=0)
    assert_close(first, other, rtol=0, atol=0)
    assert not any(torch.equal(*pair) for pair in zip(first, own("softmax", seed=1), strict=True))


@pytest.mark.parametrize("name", [*Classifier.RESERVED, "pool", "embed", "width"])
def test_a_layer_with_a_name_that_every_backbone_has_is_refused(tmp_path, name):
    """Otherwise one of the two would silently replace or hide the other."""
    file = tmp_path / "taken.py"
    file.write_text(MIXING.replace("self.mixers", f"self.{name}").replace("mixing", "taken"))
    with pytest.raises(ConfigError, match=f"backbone taken: every backbone has its own {name}: give"):
        make_model(planned(backbone=str(file)), LISTOPS)


def test_a_backbone_that_lets_padding_in_is_caught(tmp_path):
    file = tmp_path / "leaky.py"
    file.write_text(
        USERS.replace("return x, keep\n", "return x + x.mean(1, keepdim=True), keep\n").replace("looped", "leaky")
    )
    bad = [outcome.check for outcome in backbones.outcomes(str(file), "softmax", None, backbones.CHECKS) if outcome.bad]
    assert bad == ["padding_content", "padding_amount"]


def test_a_missing_file_is_one_line(tmp_path, capsys):
    words = ["--attn", "elu", "--task", "listops", "--backbone", str(tmp_path / "none.py"), "--out", str(tmp_path)]
    assert main(words) == 2
    assert capsys.readouterr().err.count("\n") == 1
