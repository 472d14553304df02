"""The process of one run on a node of a cluster: reads its order on stdin, and writes messages on stdout, a line each.

    {"node", "shared"}                its machine, and whether it can reach the output folder; then
    {"start"}                         the step of the checkpoint from which it continues, or 0
    {"line"}, {"step", "steps", ...}  what is to be printed, see `lra.console.relay`
    {"ended", ...}                    the last one, see `do`

It saves its run and ends when it reads `stop`, or when stdin is closed because the actor that started it has ended.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tasks
from lra import console, signals
from lra.errors import BusyError, UserError, WorkError, in_one_line
from lra.experiments.cluster.order import FILES, run_of_order
from lra.experiments.data import TaskData, prepare_data
from lra.experiments.job import Job, open_job, run_job
from lra.hashing import identity_of
from lra.results.checkout import commit
from lra.results.layout import work_folder

GRACE = 60.0  # seconds that an orphaned process has to save its run
Send = Callable[[dict[str, Any]], None]


def main() -> None:
    """Does the run of the order on stdin, then ends the process, including the thread that waits for stdin."""
    output = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what users' code prints goes to stderr: on stdout it would be taken for a message
    lock, kept = threading.Lock(), threading.Event()

    def send(message: dict[str, Any]) -> None:
        with lock, contextlib.suppress(OSError):  # nobody listens any more
            output.write(json.dumps(message).encode() + b"\n")
            output.flush()

    order = json.loads(sys.stdin.buffer.readline())
    threading.Thread(target=obey, args=(kept,), daemon=True).start()
    with signals.caught(hint=b""), signals.held():
        answer = do(order, send)
        send({"ended": True, **answer})
        if answer.get("files"):
            kept.wait()
        if answer.get("final") and not signals.asked():
            record = Path(answer["files"]["record"])
            shutil.rmtree(work_folder(record.parent, record.stem), ignore_errors=True)
            record.unlink(missing_ok=True)
    os._exit(0)


def obey(kept: threading.Event) -> None:
    """Reads `stop` and `kept` on stdin. If stdin is closed before `kept`, the run is saved and the process ends."""
    for line in sys.stdin.buffer:
        if line == b"stop\n":
            signals.ask()
        elif line == b"kept\n":
            kept.set()
    if not kept.is_set():
        signals.ask()
        kept.set()
        time.sleep(GRACE)
        os._exit(1)


def do(order: dict[str, Any], send: Send) -> dict[str, Any]:
    """Does the run of an order, in the output folder or, if that is out of reach, in a folder of the node's cache.

    Returns the answer. busy: another process holds the run. stopped: it was asked to stop. problem: why the run could
    not be done. files: what the driver is to fetch. final: the run is done, so the node can delete these files.
    """
    commit()
    node, out = platform.node(), Path(order["out"])
    shared = (out / order["token"]).exists()
    if not shared:
        out = tasks.cache_folder() / "ray" / identity_of({"out": order["out"], "of": order["driver"]})
    send({"node": node, "shared": shared})
    console.show(bars=False, lines=True)
    console.relay(send, order["bars"])
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(tasks.cache_folder() / "inductor"))
    try:
        job, prepared = receive(order, out, node)
        if not wait_for(job, order["patience"]):
            return {"busy": True}
        state = job.folder.load_state()
        send({"start": state["progress"]["step"] if state else 0})
        run(job, prepared, order["gpu"])
    except Exception as error:
        known = isinstance(error, UserError | ValueError)
        return {"problem": " ".join(f"{node}: {error if known else in_one_line(error)}".split())[:500]}
    if job.record is None:
        return {"stopped" if job.paused or signals.asked() else "busy": True}
    if shared:
        return {}
    folder = job.folder.folder
    files = {name: str(folder / name) for name in FILES if (folder / name).exists()}
    return {"files": files | {"record": str(job.path)}, "final": job.final}


def receive(order: dict[str, Any], out: Path, node: str) -> tuple[Job, TaskData]:
    """The job of an order, and its data. Raises WorkError where the node has other data or other packages."""
    planned = run_of_order(order["record"])
    record = planned.planned
    assert record is not None
    data_dir = Path(order["data_dir"]) if order["data_dir"] and Path(order["data_dir"]).is_dir() else None
    data = prepare_data(planned.task, planned.config, data_dir)
    if data.hash != record.data["hash"]:
        raise WorkError(
            f"it has other data of {planned.task}: {data.hash} and not {record.data['hash']}; give all nodes the same "
            "files, by --data-dir or LRA_DATA"
        )
    job = open_job(planned, data.hash, out, order["track"])
    if job.path.stem != order["name"]:
        raise WorkError(
            f"it names the run {job.path.stem} instead of {order['name']}: its packages differ from the driver's"
        )
    job.title = f"{order['title']} on {node}"
    return job, TaskData(data, record.ladder)


def wait_for(job: Job, patience: float) -> bool:
    """Waits until no other process holds the run; False after `patience` seconds. Its former process may be ending."""
    deadline = time.monotonic() + patience
    while True:
        with contextlib.suppress(BusyError), job.folder.lock():
            return True
        if time.monotonic() > deadline or signals.asked():
            return False
        time.sleep(1.0)


def run(job: Job, prepared: TaskData, gpu: bool) -> None:
    """Runs the job in this process, on the GPU that Ray has given to it or on the CPU."""
    import torch

    from lra.training.cores import threads_per_process
    from lra.training.device import choose_device
    from lra.training.distributed import alone

    device = choose_device("cuda" if gpu else "cpu")
    if device.type == "cpu":
        torch.set_num_threads(threads_per_process())
    job.announce()
    run_job(job, prepared, alone(device))


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver handles Ctrl-C
    main()
