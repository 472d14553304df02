"""Files of a data set on the Hugging Face hub, at a pinned revision, through `datasets` and the hub's own cache.

The hub's documented variables are read here (HF_ENDPOINT, HF_HOME, HF_HUB_CACHE, HF_HUB_OFFLINE, HF_DATASETS_OFFLINE),
so that a missing network is reported without the slow import of `datasets`.
"""

from __future__ import annotations

import os
import socket
import threading
import urllib.parse
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from tasks._data import MissingDataError

PATIENCE = 1.2  # seconds for the hub to answer


def fetch(task: str, repository: str, revision: str, names: Sequence[str], remedy: str) -> list[Path]:
    """These files of a data set: from the hub's cache, else downloaded into it.

    Raises MissingDataError, whose message ends in `remedy`; without a network, within PATIENCE seconds.
    """
    snapshot = cache_folder() / f"datasets--{repository.replace('/', '--')}" / "snapshots" / revision
    cached = [snapshot / name for name in names]
    if all(path.is_file() for path in cached):
        return cached
    if forbidden := next((name for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE") if is_set(name)), None):
        raise MissingDataError(f"{task}: not here, and {forbidden} forbids the download: {remedy}")
    endpoint = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
    if not reachable(endpoint):
        raise MissingDataError(f"{task}: not here, and {endpoint} is out of reach: {remedy}")
    try:
        from datasets import DownloadManager

        manager = DownloadManager()
        return [Path(str(manager.download(f"hf://datasets/{repository}@{revision}/{name}"))) for name in names]
    except Exception as error:  # the errors of the hub, of its client and of the system have no base in common
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise MissingDataError(f"{task}: the download of {repository} failed: {reason}; {remedy}") from error


def cache_folder() -> Path:
    """Where the hub's client keeps what it downloads."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    home = Path(os.environ.get("HF_HOME") or cache / "huggingface")
    return Path(os.environ.get("HF_HUB_CACHE") or home / "hub").expanduser()


def is_set(name: str) -> bool:
    """Does the hub's client read this variable as true?"""
    return os.environ.get(name, "").upper() in ("1", "ON", "YES", "TRUE")


def reachable(url: str) -> bool:
    """Does a server, or the proxy in front of it, accept a connection within PATIENCE?"""
    parts = urllib.parse.urlsplit(url)
    proxy = None if urllib.request.proxy_bypass(parts.hostname or "") else urllib.request.getproxies().get(parts.scheme)
    if proxy:
        parts = urllib.parse.urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    answers: list[bool] = []

    def ask() -> None:
        try:
            port = parts.port or {"http": 80}.get(parts.scheme, 443)
            socket.create_connection((parts.hostname, port), timeout=PATIENCE).close()
            answers.append(True)
        except (OSError, ValueError):
            answers.append(False)

    thread = threading.Thread(target=ask, daemon=True)  # looking up a name has no timeout
    thread.start()
    thread.join(PATIENCE)
    return answers == [True]
