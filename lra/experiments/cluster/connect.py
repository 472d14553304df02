"""Connects to a Ray cluster, and says how many runs fit. https://docs.ray.io/en/latest/ray-core/api/core.html"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from dataclasses import dataclass
from typing import Any

from lra import signals
from lra.errors import ConfigError
from lra.experiments.plan import Request

PORT = 6379  # where `ray start --head` listens
PATIENCE = 5.0  # seconds that the head of a cluster has to answer
INSTALL = "--engine ray needs Ray: pip install -e '.[ray]' here and on every node"
JOIN = "start the command on a machine of the cluster; to join: ray start --address="


@dataclass(frozen=True)
class Needs:
    """What a run gets of a node: CPU cores, and GPUs or a share of one."""

    cpus: int
    gpus: float

    def fit(self, resources: dict[str, float]) -> int:
        """How many runs a node with these resources takes at a time."""
        cpus = resources.get("CPU", 0.0) / self.cpus
        return int(min(cpus, resources.get("GPU", 0.0) / self.gpus + 1e-9) if self.gpus else cpus)

    def __str__(self) -> str:
        words = [f"{self.gpus:g} GPU"] if self.gpus else []
        return " and ".join([*words, f"{self.cpus} CPU"])


def connect(address: str) -> Any:
    """Ray, connected to the cluster. address: HOST:PORT, or auto for the one that this machine belongs to.

    Raises ConfigError where Ray is not installed or no cluster answers.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    handlers = {number: signal.getsignal(number) for number in signals.NUMBERS}
    try:
        import ray  # pyright: ignore[reportMissingImports]
    except ModuleNotFoundError as error:
        if error.name != "ray":
            raise
        raise ConfigError(INSTALL) from error
    if ray.is_initialized():
        return ray
    address = address or "auto"
    check(os.environ.get("RAY_ADDRESS") or address if address == "auto" else address)
    try:
        ray.init(address=address, log_to_driver=False, logging_level="error", namespace="lra")
    except Exception as error:
        if address == "auto":
            raise ConfigError(
                "--engine ray finds no cluster on this machine; start one with `ray start --head`, or join one with "
                f"`ray start --address=HOST:{PORT}`"
            ) from error
        why = " ".join(str(error).split())[:160]
        raise ConfigError(f"--address {address}: {why}; {JOIN}{address}") from error
    finally:
        if threading.current_thread() is threading.main_thread():  # Ray's handler of SIGTERM would exit
            for number, handler in handlers.items():
                signal.signal(number, handler)
    return ray


def check(address: str) -> None:
    """Raises ConfigError for a malformed address, or where no head answers; Ray itself would try for minutes."""
    if address == "auto":
        return
    host, colon, port = address.rpartition(":")
    if not colon or not host or not port.isdecimal() or not 0 < int(port) < 65536 or "/" in host:
        like = f"{host or 'HOST'}:{PORT}" if "/" not in host else f"HOST:{PORT}"
        raise ConfigError(
            f"--address takes HOST:PORT of the head, or auto, not {address[:100]!r}; did you mean {like}?"
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=PATIENCE).close()
    except OSError as error:
        raise ConfigError(
            f"no cluster answers at --address {address} ({error.strerror or error}); its head is started with "
            f"`ray start --head --port={port}`"
        ) from error
    ask = [sys.executable, "-m", "ray.scripts.scripts", "health-check", "--address", address]
    try:
        healthy = subprocess.run(ask, capture_output=True, timeout=4 * PATIENCE).returncode != 1
    except subprocess.TimeoutExpired:
        healthy = False
    if not healthy:
        raise ConfigError(
            f"what answers at --address {address} is not the head of a Ray cluster; give HOST:{PORT} of it"
        )


def needs_of(request: Request, ray: Any) -> Needs:
    """What each run gets: as requested, else one core, and one GPU with `cuda`, or `auto` on a cluster with GPUs."""
    gpus = request.gpus_per_run
    if gpus is None:
        has = ray.cluster_resources().get("GPU", 0.0) > 0
        gpus = 1.0 if request.device.startswith("cuda") or (request.device == "auto" and has) else 0.0
    return Needs(request.cpus_per_run or 1, gpus)


def slots(ray: Any, needs: Needs) -> int:
    """How many runs the nodes that are alive take at a time; 0 if the cluster does not answer."""
    with contextlib.suppress(ray.exceptions.RayError):
        return sum(needs.fit(node["Resources"]) for node in ray.nodes() if node["Alive"])
    return 0
