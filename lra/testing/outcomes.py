"""What `run_lra.py check` prints: one line for each check of an attention, and advice below each failure."""

import inspect
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import attention_zoo
from lra.errors import to_type
from lra.results.checkout import ROOT
from lra.testing import CHECKS, THOROUGH, declared
from lra.testing._setup import Check

WORDS = {"passed": "pass", "failed": "FAIL", "expected": "expected failure", "surprise": "FAIL"}


@dataclass(frozen=True)
class Outcome:
    """What one check found.

    status: passed, failed, expected (declared to fail, and it does) or surprise (declared to fail, and it passes).
    note: what was found, or what is wrong. advice: after a failure, what is usually wrong and where to look.
    """

    check: str
    status: str
    note: str
    advice: str
    seconds: float

    @property
    def bad(self) -> bool:
        return self.status in ("failed", "surprise")


def outcomes(
    spec: str, grid: tuple[int, int] | None = None, checks: Mapping[str, Check] = CHECKS | THOROUGH
) -> Iterator[Outcome]:
    """The checks on one attention, in order. Raises SpecError when there is no attention of that name."""
    entry, (_, options) = declared(spec), attention_zoo.find(spec)
    plain = entry.row(options) == entry.name  # with other options it may well pass
    return attempts(checks, (spec, grid), entry.expected_failures, must_fail=plain)


def attempts(
    checks: Mapping[str, Callable[..., str | None]],
    subject: tuple[object, ...],
    reasons: Mapping[str, str],
    *,
    must_fail: bool,
) -> Iterator[Outcome]:
    """The outcome of each check. Stops if `runs` fails, since the others need what it checks.

    reasons: check -> why it is declared to fail. must_fail: is it a surprise if such a check passes?
    """
    for name, check in checks.items():
        started = time.monotonic()
        status, note = attempt(check, *subject)
        reason = reasons.get(name)
        if reason and status == "failed":
            status, note = "expected", reason
        elif reason and must_fail:
            status, note = "surprise", f"declared to fail ({reason}), but passes: take it out of `register`"
        advice = " ".join((inspect.getdoc(check) or "").split()) if status == "failed" else ""
        yield Outcome(name, status, note, advice, time.monotonic() - started)
        if status == "failed" and name == "runs":
            return


def complaints(specs: Iterable[str], grid: tuple[int, int] | None = None) -> Iterator[str]:
    """A line for each quick check that a user's attention fails without declaring it. grid: of a run on images."""
    for spec in specs:
        for part in parts(spec):
            if attention_zoo.find(part)[0].builtin:
                continue
            for outcome in outcomes(part, grid, CHECKS):
                if outcome.bad:
                    shape = ["--grid", f"{grid[0]}x{grid[1]}"] if grid else []
                    yield complaint(spec, outcome, "check", spec, *shape)


def complaint(name: str, outcome: Outcome, *words: str) -> str:
    """The line for a check that fails. words: of the command that shows all outcomes."""
    return f"{name} fails the check {outcome.check}: {outcome.note}; to see all: {to_type(*words)}"


def parts(spec: str) -> list[str]:
    """A spec for each mechanism of a hybrid, because each is held to the contract by itself; else the spec alone."""
    entry, _ = attention_zoo.find(spec)
    return entry.specs if isinstance(entry, attention_zoo.Stack) else [spec]


def attempt(check: Callable[..., str | None], *subject: object) -> tuple[str, str]:
    """Status and one line of a check on this subject; whatever a user's file raises is a failure of the check."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return "passed", check(*subject) or ""
    except Exception as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        message = shortened(" ".join(lines))
        if isinstance(error, AssertionError):
            return "failed", message
        return "failed", f"{type(error).__name__}: {message}{place_of(error)}"


def place_of(error: Exception) -> str:
    """' (mine.py, line 12)', the last line of the user's code in the error's traceback; '' if there is none."""
    folders = (*(ROOT / room for room in ("lra", "attention_zoo")), Path(sys.base_prefix), Path(sys.prefix))
    frames = traceback.extract_tb(error.__traceback__)
    users = [f for f in frames if f.filename.endswith(".py") and not set(Path(f.filename).parents) & set(folders)]
    return f" ({Path(users[-1].filename).name}, line {users[-1].lineno})" if users else ""


def shortened(text: str) -> str:
    """At most 300 characters: the start, and the end, where PyTorch's compiler says which size or value it took."""
    return text if len(text) <= 300 else f"{text[:120]} … {text[-177:]}"


def title(spec: str) -> str:
    """'mine: Mine, O(N), padding masked', with the checks that it declares to fail."""
    entry, options = attention_zoo.find(spec)
    expected = ", ".join(f"{name} ({reason})" for name, reason in entry.expected_failures.items())
    return f"{entry.row(options)}: {entry.title}, {entry.cost or 'no declared cost'}, padding {entry.padding}" + (
        f"; declared to fail: {expected}" if expected else ""
    )


def line(outcome: Outcome) -> str:
    """One row of the table; after a failure, a second one that says where to look."""
    first = f"  {WORDS[outcome.status]:<17}{outcome.check:<18}{outcome.seconds:5.1f} s  {outcome.note}".rstrip()
    return f"{first}\n{'':<19}usually: {outcome.advice}" if outcome.advice else first
