"""How processes of the suite's own are started, and end when their parent does."""

import multiprocessing
import os
import signal
import threading
from multiprocessing.connection import wait

CONTEXT = multiprocessing.get_context("spawn")  # a fork would inherit torch's threads and CUDA's state


def follow_parent() -> None:
    """Leaves Ctrl-C to the parent, which then ends this process, and ends it when the parent was killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
