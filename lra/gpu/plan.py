"""The parts: the tests that need a GPU, time and memory of a step, then the runs, seed by seed."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lra.results.checkout import ROOT, program

PARTS = ("tests", "steps", "memory", "runs")
SIX = ("softmax", "relu", "elu", "flatten", "agent", "pola")
TASKS = ("listops", "text", "image", "retrieval", "pathfinder")  # cheap ones first
SHAPES = ("listops", "text", "image")  # tasks on which a step is timed
TOKENS = {"listops": 1035, "text": 1290, "retrieval": 7900, "image": 1024, "pathfinder": 1024}  # in an average sample
REPORT = 2.0  # minutes kept for the report, or a tenth of all minutes if that is less
RATE = 5e6  # tokens per second of a training step on an H100: assumed, not measured
FORWARD = 1 / 3  # share of the time of a training step that a forward pass takes
START = 0.5  # minutes of a run before its first step: imports, data, compiling
STEP = 1.5  # minutes to time a step in all gears, mostly compiling; assumed, too
SLACK = 1.5  # the budget of a part with runs, as a multiple of its estimate


@dataclass(frozen=True)
class GPURequest:
    """What the user asked for. minutes: for all parts together. overrides: KEY=VALUE, as after --set.

    data_dir: as for a run, or empty. files: the name of a user's task -> its file. parts: those of PARTS to do.
    """

    out: Path
    minutes: float = 60.0
    seeds: tuple[int, ...] = (0, 1, 2)
    protocol: str = "standard"
    device: str = "cuda"
    attentions: Sequence[str] = SIX
    tasks: Sequence[str] = TASKS
    overrides: Sequence[str] = ()
    data_dir: str = ""
    files: Mapping[str, str] = field(default_factory=dict)
    parts: Sequence[str] = PARTS

    @property
    def report_minutes(self) -> float:
        """Kept for the report, after all parts."""
        return min(REPORT, self.minutes / 10)

    def choice(self, data: bool = True) -> tuple[str, ...]:
        """The arguments for protocol, device, overrides and data. data: False for a command that draws its samples."""
        overrides = [text for text in self.overrides if data or not text.startswith("data.")]
        words = ("--protocol", self.protocol, "--device", self.device)
        words += ("--set", *overrides) if overrides else ()
        return words + (("--data-dir", self.data_dir) if data and self.data_dir else ())


@dataclass(frozen=True)
class Part:
    """A command to run. words: its arguments after `python`. minutes: estimated. budget: minutes at most.

    proof: text that it prints if it did anything; without this text it has failed, even with exit code 0.
    """

    name: str
    title: str
    words: tuple[str, ...]
    minutes: float
    budget: float
    proof: str = ""


def plan(request: GPURequest) -> list[Part]:
    """The parts in the order of PARTS. Raises ConfigError or DataError for an unknown protocol or task."""
    makers = {"tests": tests, "steps": steps, "memory": memory, "runs": runs}
    return [part for name in PARTS if name in request.parts for part in makers[name](request)]


def tests(request: GPURequest) -> list[Part]:  # noqa: ARG001
    """The tests that need a GPU, with name and time of each (-vv undoes the -q of pyproject.toml); warnings pass."""
    path = ROOT / "tests" / "test_gpu.py"
    words = ("-m", "pytest", "-vv", "--durations", "0", "--tb=short", "-W", "default", "-m", "gpu", str(path))
    return [Part("tests", "the tests that need a GPU", words, 4, 8, proof=" passed")] if path.exists() else []


def steps(request: GPURequest) -> list[Part]:
    """A part for each task of SHAPES and each attention: the time of a training step in each gear of the device."""
    parts = []
    for task in (task for task in SHAPES if task in request.tasks):
        for number, attention in enumerate(request.attentions):
            words = (*program(), "bench", "--yardstick", "--task", task, "--attn", attention, "--repeats", "5")
            title = f"a training step of {attention} on {task} in each gear"
            parts.append(Part(f"step-{task}-{number}", title, words + request.choice(), STEP, 3 * STEP))
    return parts


def memory(request: GPURequest) -> list[Part]:
    """A part for each attention: time and memory against length."""
    parts = []
    for number, attention in enumerate(request.attentions):
        words = (*program(), "bench", "--attn", attention, "--mode", "training", "--repeats", "5", "--budget", "10")
        words += ("--lengths", "1024", "4096", "--out", str(request.out / "bench"), *request.choice(data=False))
        title = f"time and memory of {attention} against length"
        parts.append(Part(f"memory-{number}", title, words, 1, 3))
    return parts


def runs(request: GPURequest) -> list[Part]:
    """A part for each seed and task, with the runs of all attentions."""
    parts = []
    minutes = {task: estimate(request, task) for task in request.tasks}
    for seed in request.seeds:
        for task in request.tasks:
            words = (*program(), "--attn", *request.attentions, "--task", request.files.get(task, task))
            words += ("--seed", str(seed), "--out", str(request.out), *request.choice())
            expected = minutes[task] * len(request.attentions)
            title = f"{task} under {request.protocol}, seed {seed}"
            parts.append(Part(f"{task}-{seed}", title, words, expected, SLACK * expected))
    return parts


def estimate(request: GPURequest, task: str) -> float:
    """Minutes of one run on an H100, estimated from the tokens that it trains on and evaluates."""
    from lra.experiments.plan import Request
    from lra.experiments.plan import plan as plan_runs

    overrides = tuple(request.overrides)
    one_run = Request(attentions=["softmax"], tasks=[task], seeds=[0], protocol=request.protocol, overrides=overrides)
    config = plan_runs(one_run)[0].config
    train, rows = config.train, getattr(config.data, "validation_rows", 0) or 5000
    evaluated = rows * math.ceil(train.steps / train.evaluate_every) * FORWARD
    return START + TOKENS.get(task, 1000) * (train.steps * train.batch + evaluated) / RATE / 60
