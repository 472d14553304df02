"""One process at a time in a folder: by a lock, or by a file with a heartbeat where a file system has no locks.

A lock of the system is freed when its process ends, however it ends, and is always preferred. Without one (some network
file systems, Windows) a process claims the folder by a file that only one can create. It touches the file as long as it
works; a claim that has not been touched for `LRA_STALE` seconds (600) is taken over. Either file says who holds it.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import platform
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from lra import signals
from lra.errors import BusyError, ConfigError, WorkError
from lra.results.files import is_running, write_atomically

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

STALE = 600.0  # seconds without a heartbeat after which a claim is taken over, unless LRA_STALE says otherwise
BEATS = 10  # heartbeats in that time


@functools.cache
def namespace() -> str:
    """The scope in which a process number is unique: machines and containers may share a host name."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except (OSError, ValueError):  # not Linux
        return f"{platform.node()} {uuid.getnode()}"


@dataclass(frozen=True)
class Holder:
    """The process that works in a folder. since: seconds since 1970. place: see `namespace`. token: unique."""

    host: str = field(default_factory=platform.node)
    pid: int = field(default_factory=os.getpid)
    since: float = field(default_factory=time.time)
    place: str = field(default_factory=namespace)
    token: str = field(default_factory=lambda: uuid.uuid4().hex)

    def __str__(self) -> str:
        return f"{self.host}, process {self.pid}"

    @property
    def ended(self) -> bool:
        """Is it a process of this machine that has ended? False where that cannot be known."""
        return self.place == namespace() and not is_running(self.pid)

    def encoded(self) -> bytes:
        return (json.dumps(asdict(self)) + "\n").encode()


def stale_after() -> float:
    """Seconds without a heartbeat after which a claim is taken over. Raises ConfigError for a wrong LRA_STALE."""
    text = os.environ.get("LRA_STALE", str(STALE))
    with contextlib.suppress(ValueError):
        if 0 < float(text) < float("inf"):
            return float(text)
    raise ConfigError(
        f"LRA_STALE takes the seconds without a heartbeat after which a claim is taken over, not {text!r}"
    )


def claim_of(path: Path) -> Path:
    """The file that replaces the lock at `path` where there are no locks."""
    return path.with_name(f"{path.name}.claim")


def holder_of(path: Path) -> Holder | None:
    """The process that the claim or the lock file names as its holder; it may have ended. Takes no lock itself."""
    return _read(claim_of(path)) or _read(path)


def _read(path: Path) -> Holder | None:
    with contextlib.suppress(OSError, ValueError, TypeError):
        held = Holder(**json.loads(path.read_bytes()))
        if isinstance(held.host, str) and isinstance(held.pid, int) and isinstance(held.since, float):
            return held
    return None


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file for this process. Raises BusyError when another holds it, WorkError when it cannot be made."""
    with _writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        opened = path.open("ab")
    with opened as file:
        stale = stale_after()
        if not _flock(path, file.fileno()):
            with _claimed(claim_of(path), stale):
                yield
            return
        with contextlib.suppress(OSError):  # a full disk: the lock holds all the same
            file.truncate(0)
            file.write(Holder().encoded())
            file.flush()
        try:
            if (claim := claim_of(path)).exists() and not _is_stale(claim, stale):
                raise _busy(path, _read(claim))  # claimed on a machine where this file system has no locks
            with _beating(path, None, stale):
                yield
        finally:
            with contextlib.suppress(OSError):
                file.truncate(0)


def _flock(path: Path, file: int) -> bool:
    """Takes the system's lock; False where there is none, after a line unless on Windows. Raises BusyError."""
    if fcntl is None:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise _busy(path, _read(path)) from None
    except OSError as error:
        reason = f"no locks in {path.parent.parent} ({error.strerror})"
        _say(f"{reason}: runs are claimed by files, see docs/clusters.md", once=True)
        return False
    return True


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Raises WorkError for any OSError inside."""
    try:
        yield
    except OSError as error:
        raise WorkError(f"cannot write {path}: {error.strerror or error}; fix that and start again") from error


def _busy(path: Path, holder: Holder | None) -> BusyError:
    return BusyError(f"another process is working in {path.parent}{f' ({holder})' if holder else ''}")


@contextlib.contextmanager
def _claimed(path: Path, stale: float) -> Iterator[None]:
    """Holds a folder by a file that only one process can create. Raises BusyError and WorkError."""
    claimant, lock = Holder(), path.with_name(path.name.removesuffix(".claim"))
    with _writing(path):
        if not _create(path, claimant):
            held = _read(path)
            if not _is_stale(path, stale) or not _take_over(path, claimant, stale):
                raise _busy(path, held)
            who = held or "its process"
            _say(f"{path.parent}: {who} has sent no heartbeat and counts as ended: this process continues its run")
    try:
        with _writing(path):
            if (held := _read(lock)) and not _is_stale(lock, stale):
                raise _busy(lock, held)  # locked on a machine where this file system has locks
        with _beating(path, claimant, stale):
            yield
    finally:
        if _read(path) == claimant:
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def _beating(path: Path, claimant: Holder | None, stale: float) -> Iterator[None]:
    """Touches a file regularly, for machines where this file system has no locks. claimant: the holder in a claim."""
    done = threading.Event()
    heart = threading.Thread(target=_beat, args=(path, claimant, done, stale / BEATS), daemon=True)
    heart.start()
    try:
        yield
    finally:
        done.set()
        heart.join()


def _create(path: Path, holder: Holder) -> bool:
    """Creates a file that names the holder; False if the file exists already."""
    temporary = path.with_name(f".{path.name}.{holder.token}.tmp")
    try:
        temporary.write_bytes(holder.encoded())
        try:
            os.link(temporary, path)  # the file appears with its content, even on NFS
        except FileExistsError:
            return False
        except OSError:  # no hard links on this file system
            try:
                with path.open("xb") as file:
                    file.write(holder.encoded())
            except FileExistsError:
                return False
        return True
    finally:
        temporary.unlink(missing_ok=True)


def _is_stale(path: Path, seconds: float) -> bool:
    """Has the holder of the file ended, or not touched it for these seconds by the clock of the file system?"""
    held = _read(path)
    if held is not None and held.ended:
        return True
    probe = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        probe.touch()
        return probe.stat().st_mtime - path.stat().st_mtime > seconds
    except FileNotFoundError:  # its holder has just removed it; the next attempt finds the folder free
        return False
    finally:
        probe.unlink(missing_ok=True)


def _take_over(path: Path, claimant: Holder, seconds: float) -> bool:
    """Replaces a stale claim by ours; False if another process is doing that or has done it."""
    guard = path.with_name(f"{path.name}.taken")
    if not _create(guard, claimant):
        if _is_stale(guard, seconds):
            guard.unlink(missing_ok=True)
        return False
    try:
        if not _is_stale(path, seconds):
            return False
        write_atomically(path, claimant.encoded())
        return True
    finally:
        guard.unlink(missing_ok=True)


def _beat(path: Path, claimant: Holder | None, done: threading.Event, pause: float) -> None:
    """Touches the file every `pause` seconds; if another process took the claim over, stops this one as by a signal."""
    while not done.wait(pause):
        with contextlib.suppress(OSError):
            if claimant is not None and (held := _read(path)) not in (claimant, None):
                _say(f"{path.parent}: {held} took over the run of this process, which had sent no heartbeat")
                signals.ask()
                return
            os.utime(path)


def _say(line: str, once: bool = False) -> None:
    from lra.console import say, say_once

    (say_once if once else say)(line)
