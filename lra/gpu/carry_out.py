"""Runs the parts one after another, each in a process of its own and within its budget of minutes."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence

from lra.console import say
from lra.gpu.plan import GPURequest, Part
from lra.gpu.summary import PartOutcome, summary
from lra.results.checkout import ROOT, program
from lra.results.files import check_replaceable, writable, write_all, write_named

PATIENCE = 60  # seconds that a part has to write its checkpoint after SIGTERM


def carry_out(request: GPURequest, parts: Sequence[Part]) -> list[PartOutcome]:
    """Runs the parts one after another; writes the report and summary.md. Raises WorkError if a file cannot be written.

    The summary is written after every part, so that it exists however the process ends. Ctrl-C, or a signal to stop,
    stops the part that is running, which saves its run, and skips the following ones; the report is made even then.
    """
    writable(request.out / "parts")
    check_replaceable(request.out / "summary.md", "# One GPU, ", "--out")
    outcomes, stop = [], None
    end = time.monotonic() + 60 * request.minutes
    kept = 60 * request.report_minutes
    try:
        for number, part in enumerate(parts, 1):
            left = (end - kept - time.monotonic()) / 60
            outcomes.append(_do(request, part, left, f"part {number} of {len(parts)}"))
            _write_summary(request, outcomes)
    except KeyboardInterrupt as interruption:
        stop = interruption
        outcomes += [PartOutcome(part, "interrupted", lines=_log(request, part)) for part in parts[len(outcomes) :][:1]]
    report = (*program(), "report", str(request.out), "--out", str(request.out / "report"))
    if any(request.out.glob("*.json")):
        budget = max(end - time.monotonic(), kept) / 60
        outcomes.append(_run(request, Part("report", "tables, figures and the page", report, 1, budget), budget))
    _write_summary(request, outcomes)
    if stop is not None:
        raise stop
    return outcomes


def _write_summary(request: GPURequest, outcomes: Sequence[PartOutcome]) -> None:
    write_all({"summary.md": summary(request, outcomes).encode()}, request.out, ("summary.md", "# One GPU, "))


def _do(request: GPURequest, part: Part, left: float, place: str) -> PartOutcome:
    """Runs one part, unless it is done or no time is left. left: minutes. place: 'part 2 of 9', for the message."""
    mark = request.out / "parts" / f"{part.name}.done"
    if mark.exists() and json.loads(mark.read_text(encoding="utf-8")) == list(part.words):
        return PartOutcome(part, "done before", lines=_log(request, part))
    if left <= 0:
        return PartOutcome(part, "left out")
    budget = min(part.budget, left)
    say(f"{place}: {part.title}, about {part.minutes:.0f} min, at most {budget:.0f}; {left:.0f} min left")
    outcome = _run(request, part, budget)
    if outcome.state == "done":
        write_named(mark, json.dumps(list(part.words)).encode(), "--out")
    return outcome


def _run(request: GPURequest, part: Part, budget: float) -> PartOutcome:
    """Runs the command of a part. Its output goes to the terminal and to parts/NAME.log, even if it is stopped."""
    started, lines = time.monotonic(), []
    folders = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"PYTHONUNBUFFERED": "1", "PYTHONPATH": os.pathsep.join(folders)}
    settings = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "env": environment}
    settings |= {"encoding": "utf-8", "errors": "replace"}  # an error would end the reader, and then block the part
    # in a session of its own, so that Ctrl-C does not reach it, too: `_stop` stops it
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
            _kill_session(process)
            reader.join(timeout=PATIENCE)
            write_named(request.out / "parts" / f"{part.name}.log", "\n".join([*lines, ""]).encode(), "--out")
    if state == "done" and part.proof not in "\n".join(lines):
        state = f"failed, nothing{part.proof}"
    return PartOutcome(part, state, (time.monotonic() - started) / 60, lines)


def _echo(process: subprocess.Popen, lines: list[str]) -> None:
    """Prints each line that the command prints, and appends it to `lines`."""
    for line in process.stdout or ():
        print(line, end="", flush=True)
        lines.append(line.rstrip("\n"))


def _stop(process: subprocess.Popen) -> None:
    """Stops the command by SIGTERM, on which a run writes its checkpoint, then by SIGKILL."""
    process.terminate()  # not SIGINT, which a background job of a shell ignores
    try:
        process.wait(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _kill_session(process: subprocess.Popen) -> None:
    """Kills what an ended command has left running: it would slow the next part, and the reader would wait for it."""
    if hasattr(os, "killpg"):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)


def _log(request: GPURequest, part: Part) -> list[str]:
    path = request.out / "parts" / f"{part.name}.log"
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []
