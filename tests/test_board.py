"""The bar of a grid whose runs are in other processes."""

import io
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from lra import console
from lra.experiments import board
from lra.experiments.board import Board
from lra.training.progress import Bar, Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def make_board(monkeypatch: pytest.MonkeyPatch) -> Board:
    monkeypatch.setattr(board, "tokens", lambda run, _: run.tokens)
    runs = [SimpleNamespace(tokens=tokens, data_key="") for tokens in (3000, 1000)]
    jobs: Any = [SimpleNamespace(title=f"[{i}/2] run", run=run) for i, run in enumerate(runs, 1)]
    return Board(jobs, {"": Any})  # pyright: ignore[reportArgumentType]


def at(step: int, phase: str = "") -> dict[str, Any]:
    return {"step": step, "steps": 100, "words": f"loss {step}", "phase": phase}


def test_in_a_terminal(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    shown = make_board(monkeypatch)
    assert shown.shown
    shown.began -= 100.0
    shown.hear("[1/2] run", at(40, "pretraining"))
    shown.hear("[1/2] run", at(20))
    shown.hear("[1/2] run", at(60))
    text = terminal.getvalue()
    assert "[1/2] run pretraining  40%" in text
    assert "0 of 2 runs done  45%" in text
    assert "3 min left" in text, "1200 of 4000 tokens took 100 s, and 2200 are left"
    shown.hear("[2/2] run", at(10))
    shown.end("[2/2] run")
    assert "1 of 2 runs done  70%" in terminal.getvalue()
    shown.hear("[1/2] run", {"line": "[1/2] run: test 50.0 %"})
    shown.close()
    assert "[1/2] run: test 50.0 %\n" in terminal.getvalue()


def test_elsewhere_there_are_lines(monkeypatch, capsys):
    quiet = make_board(monkeypatch)
    quiet.hear("[1/2] run", at(20))
    quiet.hear("[1/2] run", {"line": "[1/2] run: step 20/100"})
    quiet.end("[1/2] run")
    quiet.close()
    assert capsys.readouterr().err == "[1/2] run: step 20/100\n"


@pytest.mark.parametrize("bars", [False, True])
def test_what_a_process_sends(bars):
    """A line per evaluation, unless a bar shows it."""
    sent: list[dict[str, Any]] = []
    console.show(bars=False, lines=True)
    console.relay(sent.append, bars)
    try:
        config: Any = SimpleNamespace(steps=2, evaluate_every=1, batch=1)
        bar = Bar("run", config, 1)
        point = {"validation_accuracy": 0.5}
        for step in (1, 2):
            bar.update(Progress(step=step, train_loss=1.0, curve=[point] * step))
        bar.close("test 50.0 %")
    finally:
        console.relay(None)
        console.show(bars=True, lines=True)
    assert [message["step"] for message in sent if "step" in message] == [1, 2]
    lines = [message["line"] for message in sent if "line" in message]
    assert lines[-1] == "run: test 50.0 %"
    assert len(lines) == (1 if bars else 2)
