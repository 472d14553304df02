"""`softmax+pola`: mechanisms that alternate layer by layer."""

import pytest
import torch
from asking import asked, run_grid

import attention_zoo
from attention_zoo import SpecError
from lra.experiments.build import make_model
from lra.experiments.load import load_run
from lra.experiments.plan import Request, plan
from tasks import Spec

SPEC = Spec(vocab=17, classes=10, length=64)


def row(spec):
    entry, options = attention_zoo.find(spec)
    return entry.row(options)


@pytest.mark.parametrize(
    ("spec", "name"),
    [
        ("softmax+pola", "softmax+pola"),
        ("softmax+pola:alpha=3", "softmax+pola"),
        ("softmax:conv=5+pola:alpha=5+elu", "softmax:conv=5+pola:alpha=5.0+elu"),
        ("pola:alpha=1e+1+elu", "pola:alpha=10.0+elu"),
    ],
)
def test_the_row_says_so(spec, name):
    assert row(spec) == name
    assert row(name) == name, "its own name must find it again"


def test_layers_take_turns():
    (cell,) = plan(
        Request(attentions=["softmax+pola:alpha=5"], tasks=["listops"], seeds=[0], overrides=("model.layers=3",))
    )
    model = make_model(cell, SPEC)
    kinds = [type(attention).__name__ for attention in model.attentions()]
    assert kinds == ["SoftmaxAttention", "PolaAttention", "SoftmaxAttention"]
    assert getattr(model.attentions()[1], "alpha") == 5.0  # noqa: B009
    assert [getattr(attention, "dims").layer for attention in model.attentions()] == [0, 1, 2]  # noqa: B009


def test_shared_weights_equal_those_of_the_plain_rows():
    cells = plan(Request(attentions=["softmax", "softmax+pola"], tasks=["listops"], seeds=[0]))
    plain, hybrid = (make_model(cell, SPEC).state_dict() for cell in cells)
    for name in plain:
        assert torch.equal(plain[name], hybrid[name]), name


def test_identity_follows_every_part():
    specs = ["softmax+pola", "pola+softmax", "softmax+pola:alpha=5", "softmax+softmax", "softmax", "softmax+elu"]
    cells = plan(Request(attentions=specs, tasks=["listops"], seeds=[0]))
    assert len({cell.identity("data") for cell in cells}) == len(specs)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("softmax+pla", "did you mean 'pola'"),
        ("softmax+", "unknown attention"),
        ("elu+pola:alpa=1", "no option 'alpa'"),
    ],
)
def test_mistakes(spec, message):
    with pytest.raises(SpecError, match=message):
        attention_zoo.find(spec)


def test_every_part_needs_a_layer():
    with pytest.raises(SpecError, match=r"names 3 mechanisms for 2 layers; give each one: --set model\.layers=3"):
        plan(Request(attentions=["softmax+elu+pola"], tasks=["listops"], seeds=[0]))


MINE = """
from attention_zoo import QKVAttention, register


@register("mine", title="Mine", cost="O(N)")
class Mine(QKVAttention):
    def attend(self, q, k, v, keep=None):
        return v
"""


def test_a_path_may_hold_a_plus(tmp_path):
    folder = tmp_path / "a+b"
    folder.mkdir()
    (folder / "mine.py").write_text(MINE)
    assert row(str(folder / "mine.py")) == "mine"


def test_runs_and_loads_again_with_a_users_file(tmp_path):
    (tmp_path / "mine.py").write_text(MINE)
    out, spec = tmp_path / "runs", f"softmax+{tmp_path / 'mine.py'}"
    (record,) = run_grid(asked(out, attentions=[spec]))
    assert (record.status, record.row) == ("done", "softmax+mine")
    assert record.attention["source"] == MINE
    (path,) = out.glob("*.json")
    loaded = load_run(path)
    rows, classes = (len(loaded.weights[name]) for name in ("tokens.weight", "head.2.bias"))
    length = len(loaded.weights["positions.weight"])
    model = loaded.model(Spec(vocab=rows, classes=classes, length=length))
    assert [type(attention).__name__ for attention in model.attentions()] == ["SoftmaxAttention", "Mine"]
