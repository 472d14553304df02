"""One GPU for a short time: what is worth doing with it, in that order. Each part is a command, and useful by itself.

First the tests that need a GPU, then the time and memory of a step, then runs: task by task, seed by seed. A part that
uses up its budget is stopped; what it has written stays. A part that is done is not done again, and a run that was
stopped goes on, so the same command can be given until everything is done. The report and a summary come last, always.
"""

import contextlib
import json
import math
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path

from lra.console import say
from lra.results.files import write_all

ROOT = Path(__file__).resolve().parents[1]
SIX = ("softmax", "relu", "elu", "flatten", "agent", "pola")
TASKS = ("listops", "text", "image", "retrieval", "pathfinder")  # cheap ones first
SHAPES = ("listops", "text", "image")  # tasks on which a step is timed
GEARS = ("captured", "compiled", "eager")
TOKENS = {"listops": 1035, "text": 1290, "retrieval": 7900, "image": 1024, "pathfinder": 1024}  # of a mean sample
RATE = 5e6  # tokens per second of a training step on an H100: assumed, nothing has been measured
FORWARD = 1 / 3  # of the time of a training step
START = 0.5  # minutes of a run before its first step: imports, data, compiling
STEP = 1.5  # minutes to time a step in each gear, most of them to compile; assumed, too
SLACK = 1.5  # a part may take so much longer than estimated
PATIENCE = 60  # seconds to write a checkpoint in, once a part is told to stop


@dataclass(frozen=True)
class Request:
    """minutes: for all parts together. overrides: KEY=VALUE for the runs. data_dir: as for a run, or empty.

    files: the file of a user's task, by its name.
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

    def choice(self, data: bool = True) -> tuple[str, ...]:
        """The words of the protocol and what is set in it, and of the data unless samples are drawn."""
        overrides = [text for text in self.overrides if data or not text.startswith("data.")]
        words = ("--protocol", self.protocol, "--device", self.device)
        words += ("--set", *overrides) if overrides else ()
        return words + (("--data-dir", self.data_dir) if data and self.data_dir else ())


@dataclass(frozen=True)
class Part:
    """A command after the interpreter's name, its estimated minutes, and the minutes after which it is stopped."""

    name: str
    title: str
    words: tuple[str, ...]
    minutes: float
    budget: float


@dataclass
class Outcome:
    """How a part ended: done, failed, stopped (its budget is used up), left out (no time), or done before."""

    part: Part
    state: str
    minutes: float = 0.0
    lines: list[str] = field(default_factory=list)


def plan(request: Request) -> list[Part]:
    """The parts in their order. Raises ConfigError and DataError for a protocol or a task that does not exist."""
    run = str(ROOT / "run_lra.py")
    attentions, parts = tuple(request.attentions), []
    if (ROOT / "tests" / "test_gpu.py").exists():
        words = ("-m", "pytest", "-q", "-m", "gpu", str(ROOT / "tests" / "test_gpu.py"))
        parts.append(Part("tests", "the tests that need a GPU", words, 4, 8))
    gears = ("--gear", *(GEARS if request.device.startswith("cuda") else GEARS[1:]))
    for task in (task for task in SHAPES if task in request.tasks):
        for number, attention in enumerate(attentions):
            words = (run, "bench", "--yardstick", "--task", task, "--attn", attention, *gears, "--repeats", "5")
            title = f"a training step of {attention} on {task} in each gear"
            parts.append(Part(f"step-{task}-{number}", title, words + request.choice(), STEP, 3 * STEP))
    for number, attention in enumerate(attentions):
        words = (run, "bench", "--attn", attention, "--mode", "training", "--repeats", "5", "--budget", "10")
        words += ("--lengths", "1024", "4096", "--out", str(request.out / "bench"), *request.choice(data=False))
        title = f"time and memory of {attention} against length"
        parts.append(Part(f"memory-{number}", title, words, 1, 3))
    return [*parts, *runs(request)]


def runs(request: Request) -> list[Part]:
    """A part for each task and seed."""
    found, run = [], str(ROOT / "run_lra.py")
    minutes = {task: estimate(request, task) for task in request.tasks}
    for seed in request.seeds:
        for task in request.tasks:
            words = (run, "--attn", *request.attentions, "--task", request.files.get(task, task), "--seed", str(seed))
            words += ("--out", str(request.out), *request.choice())
            expected = minutes[task] * len(request.attentions)
            title = f"{task} under {request.protocol}, seed {seed}"
            found.append(Part(f"{task}-{seed}", title, words, expected, SLACK * expected))
    return found


def estimate(request: Request, task: str) -> float:
    """Minutes of a run on an H100, from the tokens that it trains on and evaluates."""
    from lra.experiments.plan import Request as Runs
    from lra.experiments.plan import plan as plan_runs

    overrides = tuple(request.overrides)
    asked = Runs(attentions=["softmax"], tasks=[task], seeds=[0], protocol=request.protocol, overrides=overrides)
    config = plan_runs(asked)[0].config
    train, rows = config.train, getattr(config.data, "validation_rows", 0) or 5000
    evaluated = rows * math.ceil(train.steps / train.evaluate_every) * FORWARD
    return START + TOKENS.get(task, 1000) * (train.steps * train.batch + evaluated) / RATE / 60


def carry_out(request: Request, parts: Sequence[Part]) -> list[Outcome]:
    """Does the parts one after another; writes the report and summary.md. Raises WorkError if that is impossible.

    Ctrl-C, or a signal to stop, ends the part that is running, which saves its run, and all that follow; the summary is
    written even so.
    """
    outcomes, started, stop = [], time.monotonic(), None
    try:
        for number, part in enumerate(parts, 1):
            left = request.minutes - (time.monotonic() - started) / 60
            outcomes.append(_do(request, part, left, f"part {number} of {len(parts)}"))
    except KeyboardInterrupt as interruption:
        stop = interruption
    report = (str(ROOT / "run_lra.py"), "report", str(request.out), "--out", str(request.out / "report"))
    if any(request.out.glob("*.json")):
        outcomes.append(_run(request, Part("report", "tables, figures and the page", report, 1, 10), 10))
    write_all({"summary.md": summary(request, outcomes).encode()}, request.out)
    if stop is not None:
        raise stop
    return outcomes


def _do(request: Request, part: Part, left: float, place: str) -> Outcome:
    """One part, unless it is done or there is no time left. left: minutes."""
    mark = request.out / "parts" / f"{part.name}.done"
    if mark.exists() and json.loads(mark.read_text(encoding="utf-8")) == list(part.words):
        return Outcome(part, "done before", lines=_log(request, part))
    if left <= 0:
        return Outcome(part, "left out")
    budget = min(part.budget, left)
    say(f"{place}: {part.title}, about {part.minutes:.0f} min, at most {budget:.0f}; {left:.0f} min left")
    outcome = _run(request, part, budget)
    if outcome.state == "done":
        write_all({mark.name: json.dumps(list(part.words)).encode()}, mark.parent)
    return outcome


def _run(request: Request, part: Part, budget: float) -> Outcome:
    """Runs the command; its output goes to the terminal and to parts/NAME.log, which is kept if it is stopped, too."""
    started, lines = time.monotonic(), []
    places = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"PYTHONUNBUFFERED": "1", "PYTHONPATH": os.pathsep.join(places)}
    settings = {"stdout": subprocess.PIPE, "env": environment, "encoding": "utf-8"}
    # in a session of its own, so that Ctrl-C reaches it once, from here
    with subprocess.Popen([sys.executable, *part.words], **settings, start_new_session=True) as process:
        reader = threading.Thread(target=_echo, args=(process, lines), daemon=True)
        reader.start()
        try:
            code = process.wait(timeout=60 * budget)
            state = "done" if code == 0 else f"failed, exit code {code}"
        except subprocess.TimeoutExpired:
            _stop(process)
            state = "stopped"
        except KeyboardInterrupt:
            _stop(process)
            raise
        finally:
            reader.join(timeout=PATIENCE)
            write_all({f"{part.name}.log": "\n".join([*lines, ""]).encode()}, request.out / "parts")
    return Outcome(part, state, (time.monotonic() - started) / 60, lines)


def _echo(process: subprocess.Popen, lines: list[str]) -> None:
    """Prints what the command prints, and keeps it."""
    for line in process.stdout or ():
        print(line, end="", flush=True)
        lines.append(line.rstrip("\n"))


def _stop(process: subprocess.Popen) -> None:
    """By SIGTERM, on which a run writes its checkpoint; by force where that does not help, and what it has started."""
    process.terminate()  # SIGINT is ignored by what a shell runs in its background
    try:
        process.wait(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if hasattr(os, "killpg"):  # a timing that goes on would slow the next part
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)


def _log(request: Request, part: Part) -> list[str]:
    path = request.out / "parts" / f"{part.name}.log"
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


def plan_text(parts: Sequence[Part], request: Request) -> str:
    """The plan as a table, with what fits into the minutes."""
    from lra.report.render import markdown, table

    after = [*accumulate(part.minutes for part in parts)]
    body = [
        [str(number), part.title, *(f"{minutes:.0f}" for minutes in (part.minutes, part.budget, used))]
        for number, (part, used) in enumerate(zip(parts, after, strict=True), 1)
    ]
    shown = markdown(table("", ["Part", "What", "Minutes", "At most", "After it"], body, left=2))
    commands = "\n".join(f"{number:>3}  {command(part)}" for number, part in enumerate(parts, 1))
    fits = sum(used <= request.minutes for used in after)
    return (
        f"{shown}\n{commands}\n\nMinutes are estimated for an H100, at {RATE / 1e6:.0f} million tokens a second, which "
        f"is assumed. The first {fits} of {len(parts)} parts fit into {request.minutes:.0f} minutes."
    )


def command(part: Part) -> str:
    """The part's command as a person would type it."""
    words = [word.removeprefix(f"{ROOT}{os.sep}") for word in part.words]
    return shlex.join(["python", *words])


def summary(request: Request, outcomes: Sequence[Outcome]) -> str:
    """What was done and how it ended, and what the timings printed; in Markdown."""
    from lra.report.render import markdown, table

    body = [[o.part.title, o.state, f"{o.minutes:.1f}", f"`{command(o.part)}`"] for o in outcomes]
    done = markdown(table("", ["Part", "State", "Minutes", "Command"], body))
    parts = [f"# One GPU, {request.minutes:.0f} minutes\n", done]
    for outcome in outcomes:
        if outcome.lines and outcome.part.name != "report":
            parts.append(f"\n## {outcome.part.title}\n\n```\n" + "\n".join(outcome.lines) + "\n```\n")
    if (request.out / "report" / "report.html").exists():
        parts.append("\nThe records' tables and figures are in `report/report.html`.\n")
    return "\n".join(parts)
