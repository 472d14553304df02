"""How the suite starts processes, and how they end when their parent ends."""

import multiprocessing
import os
import signal
import threading
from multiprocessing.connection import wait

CONTEXT = multiprocessing.get_context("spawn")  # a fork would inherit torch's threads and CUDA's state


def follow_parent() -> None:
    """Ignores Ctrl-C, because the parent handles it, and ends this process when the parent ends, even if killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
