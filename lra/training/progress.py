"""The progress of a run, and its bar, or one line per evaluation where there is no terminal."""

from collections import deque
from dataclasses import dataclass, field
from typing import Any

from tqdm import tqdm

from lra import console
from lra.config.schema import Train
from lra.console import clock, say

LONG = 600  # seconds; longer runs on a CPU are announced with a hint
RECENT = 15.0  # seconds that the speed is measured over
SURE = 20  # steps after which the estimate of the time left is trusted
COMPILED = 1.25  # assumed speed-up of a compiled step, until it is measured: 1.0 (softmax) to 1.45 (pola)
FORMAT = "{desc} {percentage:3.0f}%|{bar:24}| {n_fmt}/{total_fmt}{postfix}"


class Paused(Exception):  # noqa: N818
    """A run has stopped at a checkpoint, from which it can resume."""


@dataclass
class Progress:
    """The results of a run so far; saved with every checkpoint."""

    step: int = 0  # steps done
    train_loss: float | None = None  # mean since the last line of the log
    curve: list[dict[str, Any]] = field(default_factory=list)  # one point per evaluation
    best_accuracy: float = -1.0  # the maximum over all evaluations
    best_step: int | None = None  # of the checkpoint that will be tested
    diverged_at: int | None = None  # first step, counted from 1, after which something was not finite
    diverged_reason: str = ""
    real_tokens: int = 0
    computed_tokens: int = 0
    train_seconds: float = 0.0
    compile_seconds: float = 0.0  # counted in neither of the other two
    evaluate_seconds: float = 0.0
    peak_bytes: int = 0  # the largest up to the last checkpoint, in earlier processes too
    log_bytes: int = 0
    phase: str = ""  # "pretraining", or empty in the training itself
    pretraining: dict[str, Any] = field(default_factory=dict)  # what the record says about it
    activity, shift_at = "", 0  # what runs beside training, and the step from which training is compiled; not saved

    @property
    def seconds(self) -> float:
        """All seconds of the run so far: training, compiling and evaluating."""
        return self.train_seconds + self.compile_seconds + self.evaluate_seconds

    def diverge(self, step: int, what: str) -> None:
        """Marks the run as diverged, which ends it. what: the quantity that is not finite."""
        self.diverged_at, self.diverged_reason = step, f"{what} not finite at step {step}"


class Bar:
    """Steps, loss, validation accuracy, real tokens per second and time left of one run, or of its pretraining.

    rows: of the validation split, to estimate the time of the first evaluation. hint: printed with the estimated time
    if the run turns out to be long. crowd: the factor by which a compiler beside the run slows it.
    """

    def __init__(self, title: str, config: Train, rows: int, hint: str = "", crowd: float = 1.0):
        self.title, self.config, self.rows, self.hint, self.crowd = title, config, rows, hint, crowd
        self.training, self.phase, self.step = config, "", 0
        self.recent: deque[tuple[int, float, int]] = deque()
        self.evaluations = -1
        hidden = None if console.bars() else True  # None: hidden where there is no terminal
        self.bar = tqdm(total=config.steps, desc=title, bar_format=FORMAT, dynamic_ncols=True, disable=hidden)

    def update(self, progress: Progress) -> None:
        """Redraws the bar; called after every step, and repeatedly while a step waits."""
        self.turn_to(progress.phase)
        self.step = progress.step
        self.note(progress)
        left, speed = self.forecast(progress)
        if self.hint and progress.step - self.recent[0][0] >= SURE:
            if left > LONG:
                say(f"{self.title}: about {clock(left)} on this CPU; {self.hint}")
            self.hint = ""
        text = f"{speed:,.0f} tokens/s, {clock(left)} left" if speed else ""
        if progress.train_loss is not None:
            text = f"loss {progress.train_loss:.3f}, {text}"
        if progress.curve and progress.phase:
            text = f"validation loss {progress.curve[-1]['validation_loss']:.3f}, {text}"
        elif progress.curve:
            text = f"validation {100 * progress.curve[-1]['validation_accuracy']:.1f} %, {text}"
        if progress.activity:
            text = f"{progress.activity}, {text}"
        self.bar.n = progress.step
        self.bar.set_postfix_str(text, refresh=False)
        self.bar.update(0)
        drawn = console.draw(progress.step, self.config.steps, text, self.phase)
        if self.bar.disable and not drawn and self.evaluations not in (-1, len(progress.curve)):
            say(f"{self.title}: {self.phase}{' ' * bool(self.phase)}step {progress.step}/{self.config.steps}, {text}")
        self.evaluations = len(progress.curve)

    @property
    def where(self) -> str:
        """The last step, in words."""
        return f"{self.phase}{' ' * bool(self.phase)}step {self.step} of {self.config.steps}"

    def turn_to(self, phase: str) -> None:
        """Resets the bar where the pretraining begins, and where the training after it begins."""
        if phase == self.phase:
            return
        self.phase, self.config = phase, self.training.of_pretraining() if phase else self.training
        self.recent.clear()
        self.evaluations = -1
        self.bar.reset(total=self.config.steps)
        self.bar.set_description_str(f"{self.title} {phase}".strip(), refresh=False)

    def note(self, progress: Progress) -> None:
        """Remembers the steps of the last RECENT seconds, but at least SURE steps, all in the same gear."""
        recent = self.recent
        if recent and recent[-1][0] == progress.step:
            return
        if recent and recent[0][0] < progress.shift_at < progress.step:
            recent.clear()
        recent.append((progress.step, progress.train_seconds, progress.real_tokens))
        while progress.step - recent[1 % len(recent)][0] >= SURE and recent[-1][1] - recent[0][1] > RECENT:
            recent.popleft()

    def forecast(self, progress: Progress) -> tuple[float, float]:
        """Seconds left, evaluations included, and real tokens per second, both estimated from the steps remembered."""
        (first, began, tokens), (last, now, total) = self.recent[0], self.recent[-1]
        if last == first:
            return 0.0, 0.0
        step = (now - began) / (last - first)
        speed = (total - tokens) / max(now - began, 1e-9)
        if progress.activity:
            step /= self.crowd
        if progress.curve:
            evaluation = progress.evaluate_seconds / len(progress.curve)
        else:
            evaluation = step / 3 * self.rows / self.config.batch  # a forward pass is a third of a step
        evaluations = -(-self.config.steps // self.config.evaluate_every) - len(progress.curve)
        slow = max(0, progress.shift_at - last)  # steps that are still to be done in the eager gear
        seconds = slow * step + (self.config.steps - last - slow) * step / (COMPILED if slow else 1)
        return seconds + evaluations * evaluation, speed

    def close(self, message: str = "") -> None:
        """Ends the bar, with one line."""
        self.bar.leave = False
        self.bar.close()
        if message:
            say(f"{self.title}: {message}")
