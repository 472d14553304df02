"""`check` finds faults of an attention and says where to look; `new-attention` writes a correct one."""

import functools
import math
import os
import runpy
import textwrap
from pathlib import Path

import pytest
import torch

from attention_zoo import SpecError
from lra.cli import main
from lra.testing import CHECKS, THOROUGH
from lra.testing.outcomes import outcomes

HEAD = """
import random
import time
import numpy as np
import torch
import torch.nn.functional as F
from attention_zoo import Attention, Dims, QKVAttention, linear_attention, register


@register("wrong", title="Wrong", cost="{cost}"{more})
class WrongAttention(QKVAttention):
"""
ALL = CHECKS | THOROUGH
# what is wrong -> the checks that must say so, and the body of the class
FAULTS = {
    "mask on v alone": ("padding_amount", """
    def attend(self, q, k, v, keep=None):
        v = v if keep is None else torch.where(keep[:, None, :, None], v, 0)
        return linear_attention(F.elu(q) + 1, F.elu(k) + 1, v)
"""),
    "mask before the feature map": ("padding_amount", """
    def attend(self, q, k, v, keep=None):
        k = k if keep is None else torch.where(keep[:, None, :, None], k, 0)
        return linear_attention(F.elu(q) + 1, F.elu(k) + 1, v)
"""),
    "no mask, and only tokens before": ("scattered_padding learns", """
    def attend(self, q, k, v, keep=None):
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)
"""),
    "positions on the CPU": ("device", """
    def attend(self, q, k, v, keep=None):
        k = k + 0.1 * torch.arange(k.shape[2], dtype=k.dtype)[:, None]
        return linear_attention(F.elu(q) + 1, F.elu(k) + 1, v, keep)
"""),
    "counts its calls": ("state", """
    def attend(self, q, k, v, keep=None):
        self.calls = getattr(self, "calls", 0) + self.training
        return linear_attention(F.elu(q) + 1, F.elu(k) + 1, v, keep) / (1 + 0.01 * self.calls)
"""),
    "mean over all tokens": ("padding_amount", """
    def attend(self, q, k, v, keep=None):
        return v.mean(-2, keepdim=True).expand_as(v)
"""),
    "a maximum over the batch": ("batch_rows", """
    def attend(self, q, k, v, keep=None):
        return linear_attention(F.relu(q), F.relu(k) / k.detach().abs().max(), v, keep, eps=1.0)
"""),
    "dropout in evaluation": ("deterministic", """
    def attend(self, q, k, v, keep=None):
        return linear_attention(F.relu(q), F.relu(k), F.dropout(v, 0.1), keep)
"""),
    "a parameter nobody uses": ("gradients", """
    def __init__(self, dims: Dims, *, conv: int = 0):
        super().__init__(dims, conv=conv)
        self.scale = torch.nn.Parameter(torch.ones(1))

    def attend(self, q, k, v, keep=None):
        return linear_attention(F.relu(q), F.relu(k), v, keep)
"""),
    "0 / 0 without any real token": ("all_padding", """
    def attend(self, q, k, v, keep=None):
        return linear_attention(F.relu(q), F.relu(k), v, keep, eps=0.0)
"""),
    "a cancellation in half precision": ("low_precision bfloat16_at_4096", """
    def attend(self, q, k, v, keep=None):
        return linear_attention(F.relu(q), F.relu(k), (v + 300) - 300, keep)
"""),
    "reads a value": ("no_waiting compiles", """
    def attend(self, q, k, v, keep=None):
        if k.abs().max().item() > 1e9:
            raise ValueError
        return linear_attention(F.relu(q), F.relu(k), v, keep)
"""),
    "a dense matrix called linear": ("cost", """
    def attend(self, q, k, v, keep=None):
        a = q @ k.transpose(-2, -1)
        a = a if keep is None else a.masked_fill(~keep[:, None, None, :] & keep.any(-1)[:, None, None, None], -1e9)
        return a.softmax(-1) @ v
"""),
    "mixes nothing": ("learns", """
    def attend(self, q, k, v, keep=None):
        return v * q.sigmoid() * k.sigmoid()
"""),
    "a batch norm": ("batch_rows padding_amount", """
    def __init__(self, dims: Dims, *, conv: int = 0):
        super().__init__(dims, conv=conv)
        self.norm = torch.nn.BatchNorm1d(dims.dim)

    def forward(self, x, keep=None):
        x = x if keep is None else torch.where(keep.unsqueeze(-1), x, 0)
        return self.out(self.mix(self.norm(x.transpose(1, 2)).transpose(1, 2), keep))

    def attend(self, q, k, v, keep=None):
        return linear_attention(F.relu(q), F.relu(k), v, keep)
"""),
    "a batch norm that reads padding": ("batch_rows padding_content", """
    def __init__(self, dims: Dims, *, conv: int = 0):
        super().__init__(dims, conv=conv)
        self.norm = torch.nn.BatchNorm1d(dims.dim)

    def forward(self, x, keep=None):
        return super().forward(self.norm(x.transpose(1, 2)).transpose(1, 2), keep)

    def attend(self, q, k, v, keep=None):
        return linear_attention(F.relu(q), F.relu(k), v, keep)
"""),
    "a parameter made by the first forward pass": ("parameters", """
    def attend(self, q, k, v, keep=None):
        if not hasattr(self, "scale"):
            self.scale = torch.nn.Parameter(torch.ones_like(v[0, 0, 0]))
        return self.scale * linear_attention(F.relu(q), F.relu(k), v, keep)
"""),
    "a lazy layer": ("parameters runs", """
    def __init__(self, dims: Dims, *, conv: int = 0):
        super().__init__(dims, conv=conv)
        self.scale = torch.nn.LazyLinear(dims.head_dim)

    def attend(self, q, k, v, keep=None):
        return linear_attention(F.relu(q), F.relu(k), self.scale(v), keep)
"""),
    "numpy in the constructor": ("seeded", """
    def __init__(self, dims: Dims, *, conv: int = 0):
        super().__init__(dims, conv=conv)
        self.scale = torch.nn.Parameter(torch.tensor(np.random.rand(dims.head_dim) + 0.5).float())

    def attend(self, q, k, v, keep=None):
        return self.scale * linear_attention(F.relu(q), F.relu(k), v, keep)
"""),
    "Python's random numbers in evaluation": ("seeded deterministic", """
    def attend(self, q, k, v, keep=None):
        return (random.random() + 0.5) * linear_attention(F.relu(q), F.relu(k), v, keep)
"""),
    "numpy in training": ("seeded", """
    def attend(self, q, k, v, keep=None):
        y = linear_attention(F.relu(q), F.relu(k), v, keep)
        return y * torch.tensor(np.random.rand() + 0.5, dtype=y.dtype) if self.training else y
"""),
    "the clock": ("seeded", """
    def __init__(self, dims: Dims, *, conv: int = 0):
        super().__init__(dims, conv=conv)
        torch.manual_seed(time.time_ns() % 2**31)
        self.scale = torch.nn.Parameter(torch.rand(dims.head_dim) + 0.5)

    def attend(self, q, k, v, keep=None):
        return self.scale * linear_attention(F.relu(q), F.relu(k), v, keep)
"""),
    "a setting of the process in the constructor": ("settings", """
    def __init__(self, dims: Dims, *, conv: int = 0):
        super().__init__(dims, conv=conv)
        torch.set_float32_matmul_precision("medium")

    def attend(self, q, k, v, keep=None):
        return linear_attention(F.relu(q), F.relu(k), v, keep)
"""),
    "a seed in the forward pass": ("settings", """
    def attend(self, q, k, v, keep=None):
        torch.manual_seed(0)
        return linear_attention(F.relu(q), F.relu(k), v, keep)
"""),
    "padding of another block counts": ("padding_amount", """
    def attend(self, q, k, v, keep=None):
        y = linear_attention(F.relu(q), F.relu(k), v, keep)
        blocks = F.pad(v, (0, 0, 0, -v.shape[2] % 32)).unflatten(2, (-1, 32)).mean(3, keepdim=True)
        after = F.pad(blocks[:, :, 1:], (0, 0, 0, 0, 0, 1)).expand(-1, -1, -1, 32, -1).flatten(2, 3)
        return y + after[:, :, : v.shape[2]]
"""),
    "NaN in evaluation": ("finite", """
    def attend(self, q, k, v, keep=None):
        y = linear_attention(F.relu(q), F.relu(k), v, keep)
        return y if self.training else y * (1 + (v.abs().amax((-2, -1), keepdim=True) - 4).sqrt() * 0)
"""),
    "an overflow in float32": ("finite", """
    def attend(self, q, k, v, keep=None):
        return linear_attention((q * 20).exp(), (k * 20).exp(), v, keep)
"""),
    "half precision": ("dtype", """
    def forward(self, x, keep=None):
        return super().forward(x, keep).half()

    def attend(self, q, k, v, keep=None):
        return linear_attention(F.relu(q), F.relu(k), v, keep)
"""),
    "double precision": ("dtype", """
    def forward(self, x, keep=None):
        return super().forward(x, keep).double()

    def attend(self, q, k, v, keep=None):
        return linear_attention(F.relu(q), F.relu(k), v, keep)
"""),
    "complex numbers": ("dtype", """
    def forward(self, x, keep=None):
        return torch.fft.fft(super().forward(x, keep), dim=-1)

    def attend(self, q, k, v, keep=None):
        return linear_attention(F.relu(q), F.relu(k), v, keep)
"""),
    "a statistic that evaluation updates": ("state", """
    def __init__(self, dims: Dims, *, conv: int = 0):
        super().__init__(dims, conv=conv)
        self.register_buffer("calls", torch.zeros(()))

    def attend(self, q, k, v, keep=None):
        self.calls += 1
        return linear_attention(F.relu(q), F.relu(k), v, keep)
"""),
    "a size that is rounded": ("compiled_once", """
    def attend(self, q, k, v, keep=None):
        if q.shape[2] % 8 > 4:
            return linear_attention(F.relu(q), F.relu(k), v, keep)
        return linear_attention(F.relu(q), F.relu(k), v, keep, mean=True)
"""),
    "a tensor that is not registered": ("round_trip", """
    def __init__(self, dims: Dims, *, conv: int = 0):
        super().__init__(dims, conv=conv)
        self.scale = torch.rand(1) + 0.5

    def attend(self, q, k, v, keep=None):
        return self.scale * linear_attention(F.relu(q), F.relu(k), v, keep)
"""),
}  # fmt: skip


def wrong(folder: Path, body: str, cost: str = "O(N)", more: str = "") -> str:
    folder.mkdir(exist_ok=True)
    path = folder / "wrong.py"
    path.write_text(HEAD.format(cost=cost, more=more) + body)
    return str(path)


def only(monkeypatch, *names: str) -> None:
    """`check` makes only these checks."""
    some = functools.partial(outcomes, checks={name: ALL[name] for name in names})
    monkeypatch.setattr("lra.testing.outcomes.outcomes", some)


@pytest.fixture
def without_inductor(monkeypatch):
    """compiled_once without inductor, which takes a tenth of the time; the slow tests use the whole compiler."""
    monkeypatch.setattr("lra.testing._thorough.inductor_without_machine_code", lambda graph, _: graph.forward)


@pytest.mark.slow
def test_compiled_once_with_all_of_the_compiler(tmp_path):
    spec = wrong(tmp_path, FAULTS["a size that is rounded"][1])
    assert next(outcomes(spec, checks={"compiled_once": ALL["compiled_once"]})).bad
    assert not next(outcomes(wrong(tmp_path / "right", RELU), checks={"compiled_once": ALL["compiled_once"]})).bad


@pytest.mark.usefixtures("without_inductor")
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found_and_explained(fault, tmp_path):
    checks, body = FAULTS[fault]
    spec, wanted = wrong(tmp_path, body), checks.split()
    found = {outcome.check: outcome for outcome in outcomes(spec, checks={name: ALL[name] for name in wanted})}
    for name in wanted:
        assert found[name].bad, f"{fault}: {name} passed"
        assert found[name].note
        assert found[name].advice
    right = {"runs", "shapes"} - (
        {"runs", "shapes"} if "runs" in wanted else {"shapes"} if "finite" in wanted else set()
    )
    assert not any(outcome.bad for outcome in outcomes(spec, checks={name: ALL[name] for name in right}))


def test_an_error_names_the_line_of_the_user_s(tmp_path):
    spec = wrong(tmp_path, "    def attend(self, q, k, v, keep=None):\n        return (q @ k) @ v\n")
    line = Path(spec).read_text().splitlines().index("        return (q @ k) @ v") + 1
    (found,) = outcomes(spec, checks={"runs": CHECKS["runs"]})
    assert found.note.endswith(f"({Path(spec).name}, line {line})")


RELU = """
    def attend(self, q, k, v, keep=None):
        return linear_attention(F.relu(q), F.relu(k), v, keep)
"""


@pytest.mark.parametrize(
    ("more", "check", "status", "note"),
    [
        (', expected_failures={"learns": "because"}', "learns", "surprise", "declared to fail (because), but passes"),
        (", ordered=True", "order", "failed", "declared ordered=True"),
        (", ordered=False", "order", "passed", "blind to order"),
    ],
)
def test_declarations_must_be_true(more, check, status, note, tmp_path):
    (found,) = outcomes(wrong(tmp_path, RELU, more=more), checks={check: ALL[check]})
    assert found.status == status
    assert note in found.note


def test_a_declared_failure_must_be_a_check(tmp_path):
    with pytest.raises(SpecError, match=r"no check is named 'learn', did you mean 'learns'\?"):
        next(outcomes(wrong(tmp_path, RELU, more=', expected_failures={"learn": "because"}')))


@pytest.mark.usefixtures("without_inductor")
def test_expected_failures_are_shown(capsys):
    assert main(["check", "identity"]) == 0
    shown = capsys.readouterr().out
    assert "expected failure learns" in shown
    assert f"{len(ALL)} of {len(ALL)} as they should be" in shown


def test_a_hybrid_is_checked_part_by_part(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("lra.testing.outcomes.outcomes", lambda *_: [])
    assert main(["check", f"softmax:conv=3+{wrong(tmp_path, RELU)}+softmax:conv=3"]) == 0
    shown = capsys.readouterr().out
    assert shown.count("softmax:conv=3: Softmax") == shown.count("wrong: Wrong") == 1


def test_a_name_that_is_no_utf_8(tmp_path, capsys, monkeypatch):
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff"))
    folder.mkdir()
    only(monkeypatch, "runs", "compiles", "order")
    assert main(["check", wrong(folder, RELU)]) == 0
    assert "3 of 3 as they should be" in capsys.readouterr().out


def test_a_run_says_what_a_users_file_fails(tmp_path, tiny, capsys):
    spec = wrong(tmp_path, FAULTS["numpy in training"][1])
    out = tmp_path / "runs"
    assert main(["--attn", spec, "mean", "--task", "listops", "--protocol", tiny, "--out", str(out)]) == 0
    shown = capsys.readouterr().err
    assert f"{spec} fails the check seeded: the output in training changes with the random numbers of numpy" in shown
    assert "mean fails" not in shown


def test_a_failure_is_exit_code_1_with_advice(tmp_path, capsys, monkeypatch):
    only(monkeypatch, "runs", "learns")
    assert main(["check", wrong(tmp_path, FAULTS["mixes nothing"][1])]) == 1
    shown = capsys.readouterr().out
    assert "FAIL             learns" in shown
    assert "usually: 200 steps" in shown


def test_what_needs_an_image_is_told_of_grid(tmp_path, capsys, monkeypatch):
    only(monkeypatch, "runs")
    text = """
        from attention_zoo import QKVAttention, register

        @register("images_only", title="Images only")
        class ImagesOnly(QKVAttention):
            def __init__(self, dims):
                super().__init__(dims)
                if dims.grid is None:
                    raise ValueError("needs a grid")

            def attend(self, q, k, v, keep=None):
                return v
        """
    path = tmp_path / "images_only.py"
    path.write_text(textwrap.dedent(text))
    assert main(["check", str(path)]) == 1
    assert "rows and columns of an image, add --grid 4x6" in capsys.readouterr().out
    assert main(["check", str(path), "--grid", "4x6"]) == 0
    assert "--grid" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["check", "sofmax"], "did you mean 'softmax'"),
        (["check", "softmax", "--grid", "4"], "rows x columns"),
        (["check", "softmax", "--grid", "²x3"], "rows x columns"),
        (["new-attention", "softmax"], "a built-in attention has this name"),
        (["new-attention", "My-Own"], "lower-case letters"),
        (["new-attention", "class"], "a word of Python's own"),
        (["new-attention", "random"], "a package has this name"),
    ],
)
def test_mistakes(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_mixer_of_one_length_declares_its_padding_alone(tmp_path):
    path = tmp_path / "mixer.py"
    declared = '"padding_amount": "mixes it", "padding_content": "mixes it", "scattered_padding": "mixes it"'
    body = (
        HEAD.format(cost="O(N^2)", more=f', padding="fixed", expected_failures={{{declared}}}')
        + """
    def __init__(self, dims):
        super().__init__(dims)
        self.mixer = torch.nn.Linear(dims.length, dims.length)

    def forward(self, x, keep=None):
        return self.mixer(x.transpose(1, 2)).transpose(1, 2)
"""
    )
    path.write_text(body.replace("WrongAttention(QKVAttention)", "Mixer(Attention)"))
    checks = {name: check for name, check in ALL.items() if name not in ("learns", "compiled_once")}
    assert {outcome.status for outcome in outcomes(str(path), checks=checks)} == {"passed", "expected"}


def test_a_gated_linear_attention_is_right(tmp_path):
    """PyTorch expects other strides of elu's gradient than it makes, which does not matter to a compiler."""
    path = tmp_path / "gated.py"
    path.write_text(
        HEAD.format(cost="O(N)", more="")
        + """
    def __init__(self, dims, *, conv: int = 0):
        super().__init__(dims, conv=conv)
        self.gate = torch.nn.Linear(dims.dim, dims.dim)

    def attend(self, q, k, v, keep=None):
        return linear_attention(F.elu(q) + 1, F.elu(k) + 1, v, keep)

    def forward(self, x, keep=None):
        x = x if keep is None else torch.where(keep.unsqueeze(-1), x, 0)
        return self.out(self.mix(x, keep) * self.gate(x).sigmoid())
"""
    )
    ALL["compiles"](str(path))


@pytest.mark.usefixtures("without_inductor")
def test_new_attention_passes_its_own_test(tmp_path, monkeypatch, capsys):
    assert main(["new-attention", "fresh", "--dir", str(tmp_path)]) == 0
    assert len((tmp_path / "fresh.py").read_text().splitlines()) <= 28
    test = runpy.run_path(str(tmp_path / "test_fresh.py"))
    cases = [
        (test[name], *case.values)
        for name in ("test_contract", "test_contract_with_options")
        for case in test[name].pytestmark[0].args[1]
    ]
    assert len(cases) == len(ALL) + len(CHECKS)
    for function, spec, check in cases:
        function(spec, check)
    before = (tmp_path / "fresh.py").read_bytes()
    assert main(["new-attention", "fresh", "--dir", str(tmp_path)]) == 2
    assert "exists and is not replaced" in capsys.readouterr().err
    assert (tmp_path / "fresh.py").read_bytes() == before
    monkeypatch.syspath_prepend(tmp_path)  # where `python run_lra.py` finds modules, a file in the checkout is one
    assert main(["new-attention", "fresh", "--dir", str(tmp_path)]) == 2
    assert "exists and is not replaced" in capsys.readouterr().err


def test_nan_is_one_fault_and_no_change_from_call_to_call():
    from lra.testing._state import same

    nan = torch.tensor([1.0, math.nan])
    assert same(nan, nan.clone())
    assert not same(nan, torch.tensor([1.0, 2.0]))
    assert not same(nan, nan[:1])
    assert same(torch.tensor([1, 2]), torch.tensor([1, 2]))
