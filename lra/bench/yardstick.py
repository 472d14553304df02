"""Seconds of a training step, ours in each gear against the baseline and against `identity`, interleaved in one run.

    python benchmarks/steps.py                     ListOps, Text and Image as the standard protocol has them
    python benchmarks/steps.py --quick             a few rows, for a first look
    python benchmarks/steps.py --shape listops --attn pola --rounds 20

In every round each contender takes one step on the same samples, so that what else happens on the machine falls on all
of them alike; the table has medians over the rounds, and ratios of medians. Run it on a machine that does nothing else.
"""

import argparse
import dataclasses
import statistics
import sys
import time
import typing
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import tasks
from lra.bench import baseline, workload
from lra.bench.idle import alone_on, device_lock, free_bytes
from lra.bench.workload import Job, Workload
from lra.config.resolve import Train
from lra.console import say
from lra.experiments.run import make_model
from lra.report import render
from lra.report.format import DASH
from lra.results.machine import cpu_name
from lra.training.batches import load, sizes
from lra.training.device import Place, choose_device, choose_precision
from lra.training.loop import order
from lra.training.step import Step

ATTENTIONS = ("softmax", "pola", "agent", "elu")
SHAPES = {"listops": 2048, "text": 4096, "image": 1024}  # tokens the published suites pad to
ROWS = 2000  # samples drawn of a task
TEXT_BYTES, TEXT_SPREAD = 960.0, 0.8  # median and log deviation of drawn reviews: 68 % padding at 4,096, as IMDb has
WARM_ROUNDS = 2
Act = Callable[[int], object]


@dataclasses.dataclass
class Contender:
    """One column of the table for one attention: what it does in round i, and its seconds so far."""

    attention: str
    name: str  # baseline, or ours in a gear
    act: Act
    step: Step | None = None
    seconds: list[float] = dataclasses.field(default_factory=list)
    failed: str = ""

    @property
    def median(self) -> float | None:
        return statistics.median(self.seconds) if self.seconds and not self.failed else None

    def round(self, number: int, device: torch.device) -> None:
        if self.failed:
            return
        started = time.perf_counter()
        try:
            self.act(number)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
        except RuntimeError as error:
            self.failed = "no memory" if "memory" in str(error) else f"failed: {error}"
            return
        if number >= WARM_ROUNDS:
            self.seconds.append(time.perf_counter() - started)


def gears(device: torch.device) -> list[str]:
    """The gears a run can have here."""
    names = [name for name in typing.get_args(typing.get_type_hints(Train)["gear"]) if name != "auto"]
    return [name for name in names if name != "captured" or device.type == "cuda"]


def drawn_text(rows: int) -> tasks.Split:
    """Random bytes with lengths like those of film reviews."""
    random = np.random.default_rng(0)
    longest = SHAPES["text"]
    lengths = np.exp(random.normal(np.log(TEXT_BYTES), TEXT_SPREAD, rows)).clip(32, longest).astype(np.int32)
    return tasks.Split(random.integers(0, 255, (rows, longest), dtype=np.uint8), lengths, random.integers(0, 2, rows))


def prepare(shape: str, asked: argparse.Namespace, attention: str) -> Workload:
    """Real ListOps trees; reviews where there is data, else drawn; an image is 1,024 random pixels."""
    small = [f"data.{split}_rows={ROWS if split == 'train' else 16}" for split in ("train", "validation", "test")]
    job = Job(
        spec=attention, row=attention, shape=shape, length=0, batch=asked.rows, mode="training", device=asked.device,
        data_dir=asked.data_dir, overrides=tuple(small) if shape == "listops" else (),
    )  # fmt: skip
    cell = workload.resolve(job)
    if shape == "image":
        samples = workload.uniform(SHAPES[shape], 2 * cell.config.train.batch)
        return Workload(cell, tasks.Spec(vocab=256, classes=10, length=SHAPES[shape], padded=False), samples)
    try:
        return workload.prepare(job, cell)
    except tasks.MissingDataError:
        say(f"{shape}: no data here, lengths are drawn")
        return Workload(cell, tasks.Spec(vocab=257, classes=2, length=SHAPES[shape]), drawn_text(ROWS))


def ours(load_: Workload, gear: str, device: torch.device) -> Contender:
    cell = load_.cell
    place = Place(
        device,
        precision=choose_precision(cell.config.train.precision, device),
        length=cell.length(load_.spec),
        whole=cell.attention.padding == "fixed",
        padded=load_.spec.padded,
    )
    config = dataclasses.replace(cell.config.train, gear=gear)
    step = Step(make_model(cell, load_.spec).to(device), config, place, 0)

    def act(number: int) -> object:
        return step(load_.samples, order(len(load_.samples.labels), config.batch, 0, number), number)

    return Contender(cell.row, gear, act, step)


def yardstick(load_: Workload, longest: int, device: torch.device) -> Contender:
    cell, spec, samples = load_.cell, load_.spec, load_.samples
    model = baseline.Encoder(cell.row, cell.config.model, spec.vocab, spec.classes, longest).to(device)
    step = baseline.BaselineStep(model, cell.config.train)
    place = Place(device, length=longest, whole=True, padded=spec.padded)

    def act(number: int) -> object:
        ids, keep, labels = load(samples, order(len(samples.labels), cell.config.train.batch, 0, number), place)
        return step(ids, torch.ones_like(ids, dtype=torch.float32) if keep is None else keep.float(), labels)

    found = Contender(cell.row, "baseline", act)
    model_bytes = 4 * cell.config.train.batch * cell.config.model.heads * longest**2 * 4 * cell.config.model.layers
    if cell.row == "softmax" and device.type == "cpu" and 0 < free_bytes() < model_bytes:
        found.failed = "no memory"  # rather than have the system choose what to stop
    return found


def contenders(shape: str, asked: argparse.Namespace, device: torch.device) -> tuple[list[Contender], Workload]:
    found = []
    for attention in [*(name for name in asked.attn if name != "identity"), "identity"]:
        work = prepare(shape, asked, attention)
        found += [ours(work, gear, device) for gear in asked.gear or gears(device)]
        if attention in baseline.MAKERS and not asked.no_baseline:
            found.append(yardstick(work, SHAPES[shape], device))
    return found, work


def table(found: list[Contender]) -> str:
    """Markdown: ms of each contender; how many times faster than the baseline our best is; times identity's."""
    names = list(dict.fromkeys(one.name for one in found))
    by = {(one.attention, one.name): one for one in found}
    mine = [name for name in names if name != "baseline"]

    def best(attention: str) -> float | None:
        return min((m for name in mine if (m := by[attention, name].median) is not None), default=None)

    def ratio(over: float | None, under: float | None) -> str:
        return DASH if over is None or under is None else f"{over / under:.2f}"

    rows = []
    for attention in dict.fromkeys(one.attention for one in found):
        cells = [by.get((attention, name)) for name in names]
        plain = by.get((attention, "baseline"))
        rows.append(
            [
                attention,
                *(milliseconds(one) for one in cells),
                ratio(plain.median if plain else None, best(attention)),
                ratio(best(attention), best("identity")),
                padding(by[attention, mine[0]].step),
            ]
        )
    header = [*(f"{name}, ms" for name in names), "Times baseline", "Of identity", "Computed/real"]
    return render.markdown(render.table("", ["Attention", *header], rows))


def milliseconds(one: Contender | None) -> str:
    if one is None or one.median is None:
        return DASH if one is None else one.failed or DASH
    return f"{1000 * one.median:,.1f}"


def padding(step: Step | None) -> str:
    return f"{step.computed_tokens / step.real_tokens:.2f}" if step and step.real_tokens else DASH


def measure(shape: str, asked: argparse.Namespace, device: torch.device) -> str:
    """The table of a shape."""
    found, work = contenders(shape, asked, device)
    for number in range(WARM_ROUNDS + asked.rounds):
        for one in found:
            one.round(number, device)
        say(f"{shape}: round {number + 1} of {WARM_ROUNDS + asked.rounds}")
    batch = work.cell.config.train.batch
    rows = order(len(work.samples.labels), batch, 0, 0)
    real = sizes(work.samples, rows).mean() / SHAPES[shape]
    return f"{shape}: {batch} x {SHAPES[shape]:,}, {1 - real:.0%} of it padding\n\n{table(found)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--attn", nargs="+", default=list(ATTENTIONS), metavar="ATTENTION")
    parser.add_argument("--gear", nargs="+", default=[], help="default: all that run here")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--rows", type=int, default=0, help="batch (default: the protocol's)")
    parser.add_argument("--threads", type=int, default=1, help="on a CPU (default 1)")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--data-dir", default="")
    parser.add_argument("--no-baseline", action="store_true")
    parser.add_argument("--quick", action="store_true", help="--rows 4 --rounds 3")
    asked = parser.parse_args()
    if asked.quick:
        asked.rows, asked.rounds = asked.rows or 4, min(asked.rounds, 3)
    torch.set_num_threads(asked.threads)
    device = choose_device(asked.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{cpu_name()}, {asked.threads} thread(s)"
    alone_on(asked.device)
    with device_lock(asked.device):
        print(f"{name}, torch {torch.__version__}, medians of {asked.rounds} rounds\n")
        for shape in asked.shape:
            print(measure(shape, asked, device), flush=True)


if __name__ == "__main__":
    main()
