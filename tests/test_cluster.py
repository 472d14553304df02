"""`--engine ray` on a fake Ray that runs actors in this process: messages, lost nodes, files sent to nodes."""

import json
import os
import subprocess
import sys
import time
import types
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import asking
import pytest
from asking import run_grid
from computed import computed

from lra.cli import main
from lra.errors import ConfigError, WorkError
from lra.experiments.cluster import node as node_module
from lra.experiments.cluster.connect import Needs, check
from lra.results import checkout
from lra.results.files import writable
from lra.results.record import load

ROOT = Path(__file__).resolve().parent.parent
MINE = """
from attention_zoo import QKVAttention, register
from beside import double

@register("mine", title="Mine")
class Mine(QKVAttention):
    def attend(self, q, k, v, keep=None):
        return double(v)
"""


class LostError(Exception):
    """The error that the fake Ray raises for a lost node."""


class Reference:
    """A call of an actor's method, made when its result is requested."""

    def __init__(self, call: Callable[[], Any]):
        self.call = call


class Actor:
    """Turns calls like `actor.listen.remote(1.0)` into a `Reference`."""

    def __init__(self, ray: "StandIn", node: Any):
        self.ray, self.node, self.dead = ray, node, False

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any) -> Any:
            if self.dead:
                raise LostError(f"its node has died\n before {name}")
            result = getattr(self.node, name)(*arguments)
            if name == "listen" and self.ray.loses(self.ray, result):
                self.kill()
                raise LostError("its node has died")
            return result

        return SimpleNamespace(remote=lambda *arguments: Reference(lambda: call(*arguments)))

    def kill(self) -> None:
        self.dead = True
        if getattr(self.node, "process", None) is not None:
            self.node.process.stdin.close()


class StandIn(types.ModuleType):
    """The part of Ray that the engine uses. loses: called after every message, says whether the node is now lost."""

    def __init__(self, cpus: float = 1.0):
        super().__init__("ray")
        self.cpus, self.connected, self.losses, self.started = cpus, False, 0, 0
        self.loses: Callable[[StandIn, list[dict[str, Any]]], bool] = lambda *_: False
        self.before: Callable[[], None] = lambda: None
        self.exceptions = SimpleNamespace(RayError=LostError)
        self.cloudpickle = SimpleNamespace(register_pickle_by_value=lambda _: None)

    def is_initialized(self) -> bool:
        return self.connected

    def init(self, **_: Any) -> None:
        self.connected = True

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": self.cpus}

    def nodes(self) -> list[dict[str, Any]]:
        return [{"Alive": True, "Resources": {"CPU": self.cpus}}, {"Alive": False, "Resources": {"CPU": 8.0}}]

    def put(self, value: Any) -> Any:
        return value

    def remote(self, **_: Any) -> Any:
        def start(cls: Any) -> Any:
            def create(*arguments: Any) -> Actor:
                self.before()
                self.started += 1
                return Actor(self, cls(*arguments))

            return SimpleNamespace(remote=create)

        return start

    def get(self, reference: Reference) -> Any:
        return reference.call()

    def wait(self, references: list[Reference], num_returns: int = 1, timeout: float = 0) -> Any:  # noqa: ARG002
        return references[:num_returns], references[num_returns:]

    def kill(self, actor: Actor) -> None:
        actor.kill()


@pytest.fixture
def ray(monkeypatch) -> StandIn:
    module = StandIn()
    monkeypatch.setitem(sys.modules, "ray", module)
    monkeypatch.setattr("lra.experiments.cluster.engine.LISTENS", 0.05)
    return module


asked = partial(asking.asked, overrides=("train.gear=eager",), engine="ray")


def test_a_run_whose_node_is_lost_goes_on_on_another(ray, tmp_path, capfd):
    """The run's process sees that its parent has ended, and saves; the next process waits for that and goes on."""

    def loses(ray, messages):
        lost = ray.losses == 0 and any(message.get("step", 0) >= 20 for message in messages)
        ray.losses += lost
        return lost

    ray.loses = loses
    (record,) = run_grid(asked(tmp_path / "ray", overrides=("train.gear=eager", "train.steps=200")))
    (local,) = run_grid(asked(tmp_path / "local", overrides=("train.gear=eager", "train.steps=200"), engine="local"))
    assert record.status == "done"
    assert computed(record) == computed(local)
    said = capfd.readouterr().err
    assert "[1/1] listops elu seed 0: lost on " in said
    assert "(LostError: its node has died); it is started on the next free node" in said
    assert "[1/1] listops elu seed 0: goes on from step " in said
    assert " seed 0 on " in said, "which node is in the line of each run"
    (folder,) = (tmp_path / "ray" / "work").iterdir()
    assert {path.name for path in folder.iterdir()} == {
        "best.safetensors", "last.safetensors", "lock", "metrics.jsonl",
    }  # fmt: skip
    assert not list((tmp_path / "ray").glob(".*")), "the token is gone"


def test_a_users_file_travels_and_what_its_run_makes_comes_back(ray, tmp_path, cache, capfd):
    """The node has access neither to the output folder nor to the folder of the user's files."""
    (tmp_path / "mine").mkdir()
    file, away = tmp_path / "mine" / "mine.py", tmp_path / "away"
    file.write_text(MINE)
    (tmp_path / "mine" / "beside.py").write_text("def double(v):\n    return v + v\n")
    wanted = asked(tmp_path / "runs", attentions=[str(file)])

    def hide():
        (tmp_path / "mine").rename(away)
        for token in (tmp_path / "runs").glob(".ray.*"):
            token.unlink()

    ray.before = hide
    (record,) = run_grid(wanted)
    away.rename(tmp_path / "mine")
    assert record.status == "done"
    assert record.attention["path"] == str(file), "where it is for the user"
    (path,) = (tmp_path / "runs").glob("*.json")
    assert load(path) == record
    folder = tmp_path / "runs" / "work" / path.stem
    assert {path.name for path in folder.iterdir()} == {
        "best.safetensors", "last.safetensors", "lock", "metrics.jsonl",
    }  # fmt: skip
    assert f"cannot reach {tmp_path / 'runs'}: its runs send their records back" in capfd.readouterr().err
    deadline = time.monotonic() + 60
    while left := [path for path in (cache / "ray").rglob("*") if path.is_file()]:
        assert time.monotonic() < deadline, left
        time.sleep(0.05)
    (local,) = run_grid(replace(wanted, engine="local", out=tmp_path / "local"))
    assert computed(local) == computed(record)


class Scripted:
    """Replaces `Node`, and answers with the messages that the test gives."""

    said: list[list[dict[str, Any]]]

    def __init__(self, order: bytes, *_: Any):
        self.order, self.told = json.loads(order), []

    def listen(self, seconds: float) -> list[dict[str, Any]]:  # noqa: ARG002
        return Scripted.said.pop(0)

    def tell(self, word: str) -> None:
        self.told.append(word)


DEATH = {"exit": -9, "errors": "last words\n"}
HERE = {"node": "far", "shared": True}


@pytest.fixture
def scripted(ray, monkeypatch):
    monkeypatch.setattr(node_module, "Node", Scripted)
    return ray


def test_a_run_that_is_lost_again_and_again_has_failed(scripted, tmp_path, capfd):
    """Progress between two losses starts the count of losses anew."""
    start = {"start": 0}
    step = {"step": 20, "steps": 60, "words": "", "phase": ""}
    Scripted.said = [[HERE, start, DEATH], [HERE, start, step, DEATH], [HERE], [DEATH], [DEATH], [HERE, DEATH]]
    (record,) = run_grid(asked(tmp_path))
    assert (record.status, scripted.started) == ("failed", 5)
    assert record.reason.startswith("lost 4 times in a row without a step, last on far: its process ended by signal")
    assert record.reason.endswith("SIGKILL (out of memory?): last words")
    said = capfd.readouterr().err
    assert said.count("it is started on the next free node") == 4
    assert "no checkpoint can be reached, so it starts from the beginning on far" in said


def test_the_token_of_a_killed_command_is_removed_and_that_of_a_running_one_is_not(scripted, tmp_path):
    """Another command looks for leftovers whenever a run begins; before the second run hours pass."""
    seen: list[tuple[str, bool]] = []

    def look():
        (token,) = tmp_path.glob(".ray*")
        writable(tmp_path)
        seen.append((token.name, token.exists()))
        os.utime(token, (1e9, 1e9))

    scripted.before = look
    Scripted.said = [[HERE, {"ended": True, "busy": True}]] * 2
    assert run_grid(asked(tmp_path, attentions=["elu", "relu"])) == []
    name, _ = seen[0]
    assert seen == [(name, True)] * 2
    left = tmp_path / name
    left.touch()
    os.utime(left, (1e9, 1e9))
    writable(tmp_path)
    assert not left.exists()


@pytest.mark.usefixtures("scripted")
def test_what_a_node_cannot_do(tmp_path):
    Scripted.said = [
        [HERE, {"ended": True, "problem": "far: it has other data"}],
        [HERE, {"ended": True, "busy": True}],
    ]
    with pytest.raises(WorkError, match="far: it has other data"):
        run_grid(asked(tmp_path, attentions=["elu", "relu"]))
    assert not list(tmp_path.glob("*.json"))
    Scripted.said = [[HERE, {"ended": True, "busy": True}]]
    assert run_grid(asked(tmp_path)) == [], "another process does it"


@pytest.mark.usefixtures("scripted")
def test_a_record_of_another_run_is_refused(tmp_path, monkeypatch):
    (other,) = run_grid(asked(tmp_path / "other", engine="local"))
    (path,) = (tmp_path / "other").glob("*.json")
    monkeypatch.setattr(Scripted, "fetch", lambda _, name: Path(name).read_bytes(), raising=False)
    answer = {"ended": True, "files": {"record": str(path)}, "final": True}
    Scripted.said = [[{"node": "far", "shared": False}, answer]]
    with pytest.raises(WorkError, match=f"a node has sent the record of {other.name} for listops-relu"):
        run_grid(asked(tmp_path / "runs", attentions=["relu"]))
    assert not list((tmp_path / "runs").glob("*.json"))


def test_the_code_is_the_drivers_or_a_copy(tmp_path, monkeypatch):
    monkeypatch.setenv("LRA_CACHE", str(tmp_path / "cache"))
    digest = node_module.digest_of(ROOT)
    assert node_module.find_code(ROOT, digest, b"") == ROOT
    archive = node_module.pack(ROOT, {checkout.COPIED_FROM: json.dumps(checkout.commit()).encode()})
    copy = node_module.find_code(tmp_path / "nowhere", digest, archive)
    assert copy == tmp_path / "cache" / "code" / digest
    assert node_module.find_code(tmp_path / "nowhere", digest, b"") == copy
    code = "import lra.results.checkout as m, json; print(m.__file__); print(json.dumps(m.commit()))"
    done = subprocess.run([sys.executable, "-P", "-c", code], env=os.environ | {"PYTHONPATH": str(copy)}, text=True,
                          capture_output=True, check=True)  # fmt: skip
    where, commit = done.stdout.splitlines()
    assert Path(where).is_relative_to(copy)
    assert json.loads(commit) == checkout.commit()
    (copy / "lra" / "cli.py").write_text("")
    with pytest.raises(RuntimeError, match="is damaged; delete it"):
        node_module.find_code(tmp_path / "nowhere", digest, archive)


def test_variables_of_a_process(tmp_path, monkeypatch):
    """Variables that the node sets stay its own; folders that it lacks are not passed on."""
    monkeypatch.setenv("LRA_CACHE", "/node")
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    monkeypatch.delenv("LRA_DATA", raising=False)
    given = {"LRA_CACHE": "/driver", "LRA_DATA": str(tmp_path / "none"), "LRA_ACCEPT_MIRROR": "1"}
    found = node_module.environment(tmp_path, given)
    assert found["LRA_CACHE"] == "/node"
    assert found["LRA_ACCEPT_MIRROR"] == "1"
    assert found["PYTHONPATH"] == str(tmp_path)
    assert "OMP_NUM_THREADS" not in found, "Ray sets it"
    assert "LRA_DATA" not in found
    assert node_module.environment(tmp_path, {"OMP_NUM_THREADS": "2"})["OMP_NUM_THREADS"] == "2"


def test_how_many_runs_a_node_takes():
    assert Needs(2, 0.0).fit({"CPU": 7.0}) == 3
    assert Needs(1, 0.1).fit({"CPU": 64.0, "GPU": 1.0}) == 10
    assert Needs(1, 1.0).fit({"CPU": 64.0}) == 0
    assert str(Needs(2, 0.5)) == "0.5 GPU and 2 CPU"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--engine ray --jobs 2", "--engine ray takes what the cluster has; leave --devices, --jobs and --processes"),
        ("--engine ray --devices 0-1", "--engine ray takes what the cluster has"),
        ("--address auto", "--address works only with --engine ray; add it"),
        ("--gpus-per-run 1", "--gpus-per-run works only with --engine ray"),
        ("--cpus-per-run 2 --engine local", "--cpus-per-run works only with"),
        ("--engine ray --gpus-per-run 2", "takes 1, 0, or a share of one GPU such as 0.5, not '2'"),
        ("--engine ray --gpus-per-run nan", "takes 1, 0, or a share"),
        ("--engine ray --device cuda:1", "--device is cpu or cuda, not 'cuda:1'"),
        ("--engine ray --device cpu --gpus-per-run 1", "--device cpu none; leave one of them out"),
        ("--engine ray --device cuda --gpus-per-run 0", "--device cuda needs a GPU for each run"),
        ("--engine ray --emit grid.sbatch", "--emit writes a job array for SLURM; leave it out with --engine ray"),
        ("--engine slurm", "--engine slurm writes a job array, which you submit: run ... --engine slurm --emit grid."),
        ("--engine rai", "invalid choice 'rai', did you mean 'ray'?"),
        ("--engine ray --address 127.0.0.1:1", "no cluster answers at --address 127.0.0.1:1 ("),
        ("--engine ray --address ray://head:10001", "--address takes HOST:PORT of the head, or auto, not 'ray://"),
        ("--engine ray --address head", "--address takes HOST:PORT of the head, or auto, not 'head'; did you mean"),
    ],
)
@pytest.mark.usefixtures("ray")
def test_mistakes(words, message, tiny, tmp_path, capsys):
    command = ["--attn", "elu", "--task", "listops", "--protocol", tiny, "--out", str(tmp_path / "runs")]
    assert main([*command, *words.split()]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert not list(tmp_path.glob("runs/*.json"))


def test_without_ray_it_says_what_to_install(tiny, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)
    command = ["--attn", "elu", "--task", "listops", "--protocol", tiny, "--out", str(tmp_path), "--engine", "ray"]
    assert main(command) == 2
    said = capsys.readouterr().err
    assert said == "error: --engine ray needs Ray: pip install -e '.[ray]' here and on every node\n"


def test_no_cluster_here(ray, monkeypatch):
    def init(**_: Any) -> None:
        raise ConnectionError("Could not find any running Ray instance.")

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    from lra.experiments.cluster.connect import connect

    with pytest.raises(ConfigError, match="finds no cluster on this machine; start one with `ray start --head`"):
        connect("auto")
    check("auto")


def test_ray_is_imported_only_where_it_is_asked_for(tmp_path):
    """Other commands work if ray cannot be imported."""
    (tmp_path / "ray.py").write_text("raise SystemExit('imported')\n")
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    for words in (["--help"], ["run", "--help"], ["--attn", "elu", "--task", "listops", "--dry-run"]):
        done = subprocess.run([sys.executable, str(ROOT / "run_lra.py"), *words], cwd=tmp_path, env=environment,
                              capture_output=True, text=True)  # fmt: skip
        assert (done.returncode, "imported" in done.stderr) == (0, False), done.stderr
