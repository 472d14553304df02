"""SIGKILL at random moments of grids of short runs: each grid must end with the records of an undisturbed one."""

from __future__ import annotations

import random
import shutil
import time
from pathlib import Path

from lra.results.locks import holder_of
from soak.commands import ROOT, Command, age, contents, leftovers
from soak.counts import Plan

TINY = str(ROOT / "tests" / "tiny.yaml")
PATIENCE = 180.0  # seconds for a command that is not killed
WORKERS = 4  # one of this many grids has workers, which take longer to start
FEW, MANY = 6, 20  # kills of a grid with workers, and of one without
FRESH = 0.3  # share of the commands with workers that start in a new interpreter
BEGUN, AFTER = 0.75, 2.5  # share of kills within AFTER seconds of a run's begin; the others may come earlier
AIMED = 0.3  # share of kills that wait until a file is being written
LATEST = {0: 0.25, 2: 0.6}  # workers -> share of an undisturbed grid's seconds within which kills come
PRETRAINED = ["train.pretrain=masked", "train.pretrain_steps=30", "train.pretrain_warmup=5"]


def words_of(out: Path, seeds: int, *overrides: str, jobs: int = 0) -> list[str]:
    """The words of the command for a grid of two attentions with `seeds` seeds."""
    words = ["--attn", "elu", "softmax", "--task", "listops", "--seed", *map(str, range(seeds)), "--protocol", TINY]
    words += ["--device", "cpu", "--out", str(out), *(["--jobs", str(jobs)] if jobs else [])]
    plain = ("model.layers=1", "train.gear=eager", "train.steps=60", "train.warmup=10")
    return [*words, "--set", *plain, *overrides]


def undisturbed(plan: Plan, folder: Path, seeds: int, *overrides: str, jobs: int = 0) -> tuple[dict[str, str], float]:
    """Runs a grid that is never killed -> its records, and its seconds."""
    began = time.monotonic()
    command = Command(words_of(folder, seeds, *overrides, jobs=jobs), folder.with_suffix(".txt"), fresh=bool(jobs))
    code = command.wait(PATIENCE)
    if code != 0:
        plan.fault("losses", f"an undisturbed grid ended with {code}: {command.text()[-300:]}")
    return contents(folder), time.monotonic() - began


class Grid:
    """A grid that is killed again and again until it is done. jobs: workers; 0 for none."""

    def __init__(self, plan: Plan, out: Path, calm: dict[str, str], draw: random.Random, jobs: int, *overrides: str):
        self.plan, self.out, self.calm, self.draw, self.jobs = plan, out, calm, draw, jobs
        self.words = words_of(out, len(calm) // 2, *overrides, jobs=jobs)
        self.said = out.with_suffix(".txt")
        self.final: dict[Path, bytes] = {}  # the bytes of each final record when first seen

    def start(self) -> Command:
        return Command(self.words, self.said, fresh=self.jobs > 0 and self.draw.random() < FRESH)

    def kill_once(self, longest: float) -> bool:
        """Starts the command and kills some of its processes -> whether it had ended before that."""
        resumed = self.resumable()
        logs = self.logs()
        command, aimed = self.start(), self.draw.random() < AIMED
        if self.draw.random() < BEGUN:
            self.wait_for_a_run(command)
            longest = AFTER
        deadline = time.monotonic() + self.draw.uniform(0.02, longest)
        while command.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
        while aimed and command.poll() is None and time.monotonic() < deadline + 2 and not self.writing():
            time.sleep(0.0003)
        ended = command.poll() is not None
        if not ended:
            self.kill(command)
            self.note(logs)
        self.look_over(command, resumed)
        return ended

    def kill(self, command: Command) -> None:
        """Kills all processes at once or, where there are workers, sometimes the parent alone, or one worker."""
        others = [pid for pid in command.members() if pid != command.pid]
        target = self.draw.choice(("group", "parent", "worker")) if others else "group"
        command.kill({"group": 0, "parent": command.pid, "worker": self.draw.choice(others or [0])}[target])
        self.plan.counts[
            f"kills of {'one process' if not others else 'a whole grid' if target == 'group' else f'a {target}'}"
        ] += 1
        if target == "worker" and command.wait(PATIENCE) is None:
            self.plan.fault("losses", "a command did not end after a worker was killed")
        deadline = time.monotonic() + 15
        while command.members() and time.monotonic() < deadline:
            time.sleep(0.02)
        if command.members():
            self.plan.fault("losses", "processes were left behind")
            command.kill()
        command.wait(5)

    def wait_for_a_run(self, command: Command) -> None:
        """Waits until a process of the command holds the lock of a run."""
        deadline = time.monotonic() + PATIENCE
        while command.poll() is None and time.monotonic() < deadline:
            held = [holder_of(path) for path in self.out.glob("work/listops-*/lock")]
            if any(holder is not None and not holder.ended for holder in held):
                return
            time.sleep(0.005)

    def writing(self) -> list[Path]:
        return [*self.out.glob("work/*/.*.tmp"), *self.out.glob(".*.tmp")]

    def resumable(self) -> set[str]:
        """The names of the runs that have a checkpoint."""
        return {path.parent.name for path in self.out.glob("work/listops-*/resume*.pt")}

    def logs(self) -> dict[Path, int]:
        """Modification times of the runs' locks, logs and checkpoints, in ns; they change once a run has begun."""
        return {path: path.stat().st_mtime_ns for path in self.out.glob("work/listops-*/*")
                if path.name in ("lock", "metrics.jsonl", "resume.pt")}  # fmt: skip

    def note(self, logs: dict[Path, int]) -> None:
        """Counts what the command was doing when it was killed: writing, training or starting."""
        if writing := self.writing():
            self.plan.counts["killed while writing"] += 1
            for path in writing:
                path.rename(path.with_name(path.name.replace(".tmp", ".seen.tmp")))  # so that each is counted once
            for path in self.out.rglob("*.seen.tmp"):
                path.unlink()
        elif self.logs() != logs:
            self.plan.counts["killed while training"] += 1
        else:
            self.plan.counts["killed while starting"] += 1

    def look_over(self, command: Command, resumed: set[str]) -> None:
        """Counts the runs that the command resumed, and notes tracebacks, lost checkpoints and changed records."""
        if "Traceback" in (said := command.text()):
            self.plan.fault("tracebacks", said[said.index("Traceback") :][-600:])
        if "corrupt" in said or "damaged" in said:
            self.plan.fault("losses", f"a checkpoint was lost: {said[-300:]}")
        for path, content in self.final.items():
            if not path.exists() or path.read_bytes() != content:
                self.plan.fault("losses", f"{path.name} was final and has changed")
        names = contents(self.out)
        self.plan.counts["runs resumed"] += sum(
            f"{name}.json" in names and self.out / f"{name}.json" not in self.final for name in resumed
        )
        self.final |= {self.out / name: (self.out / name).read_bytes() for name in names}

    def finish(self) -> None:
        """Runs the command to its end, compares its records with an undisturbed grid's, and looks for leftovers."""
        for _ in range(4):  # the run of a killed worker has failed, and is tried again
            resumed, command = self.resumable(), self.start()
            if (code := command.wait(PATIENCE)) is None:
                command.kill()
            self.look_over(command, resumed)
            if code == 0:
                break
            time.sleep(1)
        found = contents(self.out)
        for name, content in self.calm.items():
            self.plan.counts["records compared"] += 1
            if found.get(name) != content:
                self.plan.fault("losses", f"{name} {'differs' if name in found else 'is missing'}")
        age(self.out)
        Command(self.words, self.said).wait(PATIENCE)
        if left := leftovers(self.out):
            self.plan.fault("losses", f"left behind: {', '.join(left[:5])}")
        self.plan.counts["grids killed and ended"] += 1


def run(plan: Plan) -> None:
    draw = random.Random(plan.seed)
    undisturbed(plan, plan.folder / "warm", 2)  # prepares the data and compiles
    calm, seconds = {}, {}
    for overrides, jobs in (([], 0), (PRETRAINED, 0), ([], 2)):
        folder = plan.folder / f"calm{len(overrides)}{jobs}"
        records, seconds[jobs] = undisturbed(plan, folder, 2, *overrides, jobs=jobs)
        if records != calm.setdefault(len(overrides), records):
            plan.fault("losses", "workers make other records")
    print(f"seconds of a grid that is left alone: {seconds[0]:.0f}, with workers {seconds[2]:.0f}", flush=True)
    number, kills = 0, 0
    while kills < plan.kills and plan.left():
        overrides, jobs = (PRETRAINED if number % 2 else []), (2 if number % WORKERS == 1 else 0)
        grid = Grid(plan, plan.folder / f"grid{number}", calm[len(overrides)], draw, jobs, *overrides)
        for _ in range(FEW if jobs else MANY):
            if kills >= plan.kills or not plan.left() or grid.kill_once(LATEST[jobs] * seconds[jobs]):
                break
            kills += 1
        grid.finish()
        shutil.rmtree(grid.out)
        number += 1
    plan.counts["kills survived"] = kills
    plan.take("kills survived", "killed while training", "killed while writing", "killed while starting",
              "kills of one process", "kills of a whole grid", "kills of a parent", "kills of a worker",
              "grids killed and ended", "runs resumed", "records compared")  # fmt: skip
