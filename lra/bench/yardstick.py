"""Seconds of a training step: ours in each gear, the padded baseline and `identity`, in interleaved rounds.

    python run_lra.py bench --yardstick                                    softmax, pola, agent, elu on three tasks
    python run_lra.py bench --yardstick --batch 4 --repeats 3              a first look
    python run_lra.py bench --yardstick --task listops --attn pola --repeats 20

In every round each contender takes one step (on CUDA ten) on the same samples, so that other work on the machine slows
all of them equally. The table has medians over the rounds, and ratios of medians. docs/speed.md explains the columns.
"""

import dataclasses
import statistics
import time
import typing
from collections.abc import Callable, Iterator

import torch

from lra.bench import baseline, workload
from lra.bench.idle import alone_on, device_lock
from lra.bench.runner import BenchRequest
from lra.bench.workload import Timing, Workload
from lra.config.schema import Train
from lra.console import say
from lra.errors import ConfigError, first_line, suggestion
from lra.experiments.build import make_model, padding_of
from lra.experiments.data import expand_tasks
from lra.results.machine import cpu_name
from lra.training.batches import order, sizes
from lra.training.cores import free_bytes
from lra.training.device import (
    Device,
    Padding,
    choose_device,
    choose_precision,
    lacks_memory,
    set_backends,
    synchronise,
)
from lra.training.loading import load
from lra.training.step import Step

ATTENTIONS = ("softmax", "pola", "agent", "elu")
LENGTHS = {"listops": 2048, "text": 4096, "image": 1024}  # the tokens to which the published suites pad
WARM_ROUNDS = 2
STEPS = {"cuda": 10}  # in a round, between two waits for the device, as in a run; 1 on other devices
Act = Callable[[int], object]


@dataclasses.dataclass(frozen=True)
class Table:
    """Cells in words, None where there is no value."""

    title: str
    header: list[str]
    rows: list[list[str | None]]


@dataclasses.dataclass
class Contender:
    """One column of the table for one attention: what it does in step i, and the seconds of a step in each round."""

    attention: str
    name: str  # 'baseline', or the gear of our step
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
        steps = STEPS.get(device.type, 1)
        started = time.perf_counter()
        try:
            for step in range(steps):
                self.act(steps * number + step)
            synchronise(device)
        except (RuntimeError, MemoryError) as error:
            self.failed = "no memory" if lacks_memory(error) else f"failed: {first_line(error) or type(error).__name__}"
            return
        if number >= WARM_ROUNDS:
            self.seconds.append((time.perf_counter() - started) / steps)


def measure_all(request: BenchRequest, with_baseline: bool = True) -> Iterator[Table]:
    """The table of each task, as soon as it is complete.

    Raises SpecError, DataError, ConfigError, WorkError, or BusyError while another bench measures on the device.
    """
    template = dataclasses.replace(request.template, threads=request.template.threads or 1)
    rows = workload.rows_of(request.attentions or list(ATTENTIONS))
    chosen = expand_tasks(request.tasks) or list(LENGTHS)
    for task in chosen:
        if task not in LENGTHS:
            raise ConfigError(
                f"--yardstick does not measure {task!r}{suggestion(task, list(LENGTHS))}; it has {', '.join(LENGTHS)}"
            )
    torch.set_num_threads(template.threads)
    device = choose_device(template.device)
    names = gears(device) if request.gears == ["auto"] else request.gears
    with device_lock(device):
        alone_on(device)
        for task in chosen:
            timings = [
                dataclasses.replace(template, spec=spec, row=row, shape=task)
                for spec, row in {**rows, "identity": "identity"}.items()
            ]
            yield measure(timings, names, device, with_baseline)


def machine(request: BenchRequest) -> str:
    """Where the request is measured, in words."""
    device = choose_device(request.template.device)
    on_cpu = f"{cpu_name()}, {request.template.threads or 1} thread(s)"
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else on_cpu
    return f"{name}, torch {torch.__version__}, medians of {request.template.repeats} rounds"


def measure(timings: list[Timing], gears: list[str], device: torch.device, with_baseline: bool = True) -> Table:
    """The table of one task; `identity` is among the timings."""
    contenders, work = gather(timings, gears, device, with_baseline)
    shape, rounds = timings[0].shape, WARM_ROUNDS + timings[0].repeats
    for number in range(rounds):
        for contender in contenders:
            contender.round(number, device)
        say(f"{shape}: round {number + 1} of {rounds}")
    batch = work.run.config.train.batch
    real = sizes(work.samples, order(len(work.samples.labels), batch, 0, 0)).mean() / LENGTHS[shape]
    return table(f"{shape}: {batch} x {LENGTHS[shape]:,}, {1 - real:.0%} of it padding", contenders)


def gears(device: torch.device) -> list[str]:
    """The gears that a run can have on this device."""
    names = [name for name in typing.get_args(typing.get_type_hints(Train)["gear"]) if name != "auto"]
    return [name for name in names if name != "captured" or device.type == "cuda"]


def gather(
    timings: list[Timing], gears: list[str], device: torch.device, with_baseline: bool
) -> tuple[list[Contender], Workload]:
    """All contenders of one task, and the workload of the last; all have the same samples."""
    contenders = []
    for timing in timings:
        work = prepare(timing)
        contenders += [ours(work, gear, device) for gear in gears]
        if timing.row in baseline.MAKERS and with_baseline and baseline.fits(work.run.config):
            contenders.append(padded(work, LENGTHS[timing.shape], device))
        elif timing.row in baseline.MAKERS and with_baseline:
            say(f"{timing.row}: no baseline, which is flat, with learned positions, mean pooling and clipping by norm")
    return contenders, work


def prepare(timing: Timing) -> Workload:
    """Real ListOps trees; real reviews where there is data, else drawn lengths; an image is 1,024 random pixels."""
    timing = dataclasses.replace(timing, whole_run=True)
    return workload.prepare(timing, workload.resolve(timing))


def ours(work: Workload, gear: str, device: torch.device) -> Contender:
    run = dataclasses.replace(work.run, precision=choose_precision(work.run.config.train.precision, device))
    config = dataclasses.replace(run.config.train, gear=gear)
    padding = padding_of(run, work.spec)
    set_backends(config.deterministic)
    step = Step(make_model(run, work.spec).to(device), config, Device(device, run.precision), padding, 0)

    def act(number: int) -> object:
        rows = order(len(work.samples.labels), config.batch, 0, number)
        return step(work.samples, rows, number % config.steps)  # beyond the last step the rate would be negative

    return Contender(run.row, gear, act, step)


def padded(work: Workload, longest: int, device: torch.device) -> Contender:
    """The baseline, padded to the length of the published suites."""
    run, spec, samples = work.run, work.spec, work.samples
    model = baseline.Encoder(run.row, run.config.model, spec.vocab, spec.classes, longest).to(device)
    step = baseline.BaselineStep(model, run.config.train)
    padding = Padding(length=longest, to_full_length=True, padded=spec.padded)

    def act(number: int) -> object:
        rows = order(len(samples.labels), run.config.train.batch, 0, number)
        ids, keep, labels = load(samples, rows, padding, device)
        return step(ids, torch.ones_like(ids, dtype=torch.float32) if keep is None else keep.float(), labels)

    contender = Contender(run.row, "baseline", act)
    model_bytes = 4 * run.config.train.batch * run.config.model.heads * longest**2 * 4 * run.config.model.layers
    if run.row == "softmax" and device.type == "cpu" and 0 < free_bytes() < model_bytes:
        contender.failed = "no memory"  # else the system would choose a process to stop
    return contender


def table(title: str, contenders: list[Contender]) -> Table:
    """Milliseconds of each contender, the baseline's time over our best, our best over identity's best."""
    names = list(dict.fromkeys(one.name for one in contenders))
    by = {(one.attention, one.name): one for one in contenders}
    our_names = [name for name in names if name != "baseline"]

    def best(attention: str) -> float | None:
        return min((m for name in our_names if (m := by[attention, name].median) is not None), default=None)

    rows = []
    for attention in dict.fromkeys(one.attention for one in contenders):
        plain = by.get((attention, "baseline"))
        rows.append(
            [
                attention,
                *(milliseconds(by.get((attention, name))) for name in names),
                ratio(plain.median if plain else None, best(attention)),
                ratio(best(attention), best("identity")),
                computed_over_real(by[attention, our_names[0]].step),
            ]
        )
    header = ["Attention", *(f"{name}, ms" for name in names), "Times baseline", "Of identity", "Computed/real"]
    return Table(title, header, rows)


def ratio(over: float | None, under: float | None) -> str | None:
    return None if over is None or under is None else f"{over / under:.2f}"


def milliseconds(contender: Contender | None) -> str | None:
    """In words, with the gear that ran where it is not the one asked for."""
    if contender is None or contender.failed:
        return contender.failed if contender else None
    if contender.median is None:
        return None
    ran = contender.step.gears.gear.name if contender.step else contender.name
    return f"{1000 * contender.median:,.1f}" + (f" ({ran})" if ran != contender.name else "")


def computed_over_real(step: Step | None) -> str | None:
    return f"{step.computed_tokens / step.real_tokens:.2f}" if step and step.real_tokens else None
