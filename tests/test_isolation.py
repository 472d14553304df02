"""Every run of a grid has the results that it would have alone, and its model can be built from its record."""

import random
from pathlib import Path
from typing import Any

import asking
import numpy as np
import pytest
import torch
from asking import run_grid
from computed import computed
from records import make

import attention_zoo
import lra
import tasks
from attention_zoo import process
from lra.experiments.fresh_state import fresh_state, kept_generators
from lra.experiments.load import find_attention, task_of
from lra.experiments.plan import Request
from lra.training.cores import threads_per_process
from lra.training.process import has_accelerator, seed_everything

MEDDLING = """
import torch
from attention_zoo import QKVAttention, register

@register("meddling", title="Meddling")
class Meddling(QKVAttention):
    def attend(self, q, k, v, keep=None):
        torch.set_default_dtype(torch.float64)
        torch.set_num_threads(3)
        torch.set_float32_matmul_precision("medium")
        torch.backends.cudnn.benchmark = True
        return v
"""


def another(value):
    """A value that differs from the setting's value in a new process."""
    if isinstance(value, bool):
        return not value
    kinds = {torch.dtype: torch.float64, torch.device: torch.device("meta"), int: torch.get_num_threads() + 1}
    if isinstance(value, tuple):  # deterministic algorithms; or the precision of matrix products
        return (True, True) if value == (False, False) else ("medium", *value[1:])
    return kinds.get(type(value), "ieee")


DRAWING = """
import random
import numpy as np
from attention_zoo import QKVAttention, register

@register("drawing", title="Drawing")
class Drawing(QKVAttention):
    def __init__(self, dims):
        super().__init__(dims)
        self.scale = float(np.random.rand() + random.random())

    def attend(self, q, k, v, keep=None):
        return v * (self.scale + np.random.rand() + random.random())
"""


def asked(out: Path, *attentions: str, **changes: Any) -> Request:
    return asking.asked(out, attentions=list(attentions), **({"overrides": ("train.steps=40",)} | changes))


def weights(out: Path, row: str) -> bytes:
    return next(out.glob(f"work/*-{row}-*/last.safetensors")).read_bytes()


def test_what_a_users_file_sets_ends_with_its_run(tmp_path):
    file = tmp_path / "meddling.py"
    file.write_text(MEDDLING)
    before = process.look()
    (alone,) = run_grid(asked(tmp_path / "alone", "elu"))
    meddled, after = run_grid(asked(tmp_path / "grid", str(file), "elu"))
    assert (meddled.status, meddled.environment["threads"]) == ("done", 3), "the file did set them"
    assert computed(after) == computed(alone)
    assert weights(tmp_path / "grid", "elu") == weights(tmp_path / "alone", "elu")
    assert after.environment["threads"] == alone.environment["threads"] == threads_per_process()
    assert process.look() == before


def test_a_fresh_state_is_that_of_a_new_process():
    """Every changed setting is reset to that of a new process, and afterwards changed back."""
    with process.kept(search=False):
        process.restore(process.as_new(process.look()))
        new = process.look()
        for name, (_, put) in process.settings().items():
            put(another(new[name]))
        assert not [name for name, value in process.look().items() if value == new[name]]
        others = process.look()
        with fresh_state(threads=new["the number of threads"]):
            assert process.look() == new
        assert process.look() == others


def test_numbers_drawn_from_numpy_and_python_are_those_of_the_seed(tmp_path):
    """Draws are the same whatever the process has drawn before, and in a run that was stopped and resumed."""
    file = tmp_path / "drawing.py"
    file.write_text(DRAWING)
    (first,) = run_grid(asked(tmp_path / "first", str(file)))
    np.random.rand(7)
    random.random()
    (second,) = run_grid(asked(tmp_path / "second", str(file)))

    with pytest.raises(KeyboardInterrupt):
        run_grid(asked(tmp_path / "third", str(file), observe=asking.stop_at(33)))
    (third,) = run_grid(asked(tmp_path / "third", str(file)))
    assert computed(first) == computed(second) == computed(third)
    assert len({weights(tmp_path / name, "drawing") for name in ("first", "second", "third")}) == 1
    (other,) = run_grid(asked(tmp_path / "other", str(file), seeds=[1]))
    assert other.curve[-1]["train_loss"] != first.curve[-1]["train_loss"]


def test_a_model_for_the_caller_leaves_the_generators_alone(tmp_path):
    """A notebook that has seeded its generators goes on to draw what it would draw without the model."""
    file = tmp_path / "drawing.py"
    file.write_text(DRAWING)
    run_grid(asked(tmp_path / "runs", str(file), overrides=("train.steps=2", "train.warmup=1")))
    (path,) = (tmp_path / "runs").glob("*.json")
    loaded, start = lra.load(path), lra.prepare(str(file), "listops", protocol=asking.TINY)

    def draw(act: Any) -> tuple[Any, ...]:
        torch.manual_seed(3)
        np.random.seed(4)
        random.seed(5)
        act()
        return float(torch.rand(1)), torch.initial_seed(), float(np.random.rand()), random.random()

    undisturbed = draw(lambda: None)
    assert draw(start.model) == undisturbed
    assert draw(loaded.model) == undisturbed


def test_cuda_that_has_not_started_gets_the_callers_seed(monkeypatch):
    """What seeds PyTorch before that is kept for CUDA, which takes the last seed when it starts."""
    seeds: list[int] = []
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.manual_seed_all", seeds.append)
    with torch.random.fork_rng(()):
        torch.default_generator.manual_seed(3)
        with kept_generators():
            torch.default_generator.manual_seed(4)
    assert seeds == [3]


def test_seeds_of_any_size():
    for seed in (0, 2**63 - 1):
        drawn = []
        for _ in range(2):
            seed_everything(seed)
            drawn.append((float(torch.rand(1)), float(np.random.rand()), random.random()))
        assert drawn[0] == drawn[1]
        torch.manual_seed(seed)
        assert float(torch.rand(1)) == drawn[0][0]


def test_an_accelerator_is_seeded_too(monkeypatch):
    seeded = []
    monkeypatch.setattr(torch, "manual_seed", seeded.append)
    monkeypatch.setattr("lra.training.process.devices", lambda: ["cpu", "cuda:0"])
    has_accelerator.cache_clear()
    try:
        seed_everything(3)
    finally:
        has_accelerator.cache_clear()
    assert seeded == [3]


HELPED = """
from attention_zoo import QKVAttention, register
from helper import FACTOR

@register("helped", title="Helped")
class Helped(QKVAttention):
    def attend(self, q, k, v, keep=None):
        return FACTOR * v
"""


@pytest.mark.parametrize("spec", ["{file}", "softmax+{file}"])
def test_an_attention_that_is_gone_is_built_from_its_record(tmp_path, spec, capsys, monkeypatch):
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "helped.py").write_text(HELPED)
    (folder / "helper.py").write_text("FACTOR = 2.0\n")
    (record,) = run_grid(asked(tmp_path / "runs", spec.format(file=folder / "helped.py")))
    assert record.status == "done"
    (path,) = (tmp_path / "runs").glob("*.json")
    loaded = lra.load(path)
    spec = tasks.find("listops").prepare(loaded.config.data, None, tasks.cache_folder(), False).spec
    (folder / "helped.py").rename(folder / "elsewhere.py")
    capsys.readouterr()
    weights = loaded.model(spec).state_dict()
    assert all(torch.equal(weights[name], value) for name, value in loaded.weights.items())
    said = capsys.readouterr().err
    assert "the attention is taken from its text in the record" in said
    assert said.count("\n") == 1
    about = loaded.record.attention
    parts = about.get("parts") or [about]
    changed = [part | {"source": part["source"].replace("FACTOR *", "3 *")} if "source" in part else part
               for part in parts]  # fmt: skip
    with pytest.raises(attention_zoo.SpecError, match="has never run on this machine and is not run"):
        find_attention(about | {"parts": changed})
    monkeypatch.setenv("LRA_TRUST_RECORDS", "1")
    with pytest.raises(attention_zoo.SpecError, match="does not hold all of its code"):
        find_attention(about | {"parts": changed})
    nameless = [{key: value for key, value in part.items() if key != "name"} for part in parts]
    with pytest.raises(attention_zoo.SpecError, match="the record holds no name of its attention"):
        find_attention(about | {"parts": nameless})


def test_a_task_that_is_gone_is_taken_from_its_record(tmp_path, capsys, monkeypatch):
    page = Path(__file__).parent.parent / "docs" / "add-a-task.md"
    code = page.read_text().split("```python\n")[1].split("```")[0].replace('"majority"', '"gone_task"')
    record = make("elu", 0.5, task="gone_task", data={"file": str(tmp_path / "gone.py"), "code": code, "hash": "0"})
    with pytest.raises(tasks.DataError, match="has never run on this machine and is not run"):
        task_of(record)
    monkeypatch.setenv("LRA_TRUST_RECORDS", "1")
    assert task_of(record) == "gone_task"
    assert tasks.find("gone_task").name == "gone_task"
    assert "the task is taken from its text in the record" in capsys.readouterr().err
