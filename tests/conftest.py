"""What all tests share: caches of this session, so that the user's are untouched; how processes divide the tests.

`make test` runs two processes (pytest-xdist). A file with a module-scoped fixture is run by one process, so that what
the fixture trains or generates is made once, and so are the files of Pathfinder. The tests of all other files go one by
one to the next free process.
"""

import functools
import gc
import importlib.util
import multiprocessing
import os
import tempfile
import time
from collections.abc import Iterator
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import Any

import pytest
from pictures import leave_undrawn

os.environ.setdefault("GOMP_SPINCOUNT", "5000")  # before torch is imported, as the command line does
if "PYTEST_XDIST_WORKER" in os.environ:  # the other test processes need cores, too
    os.environ.setdefault("OMP_NUM_THREADS", "1")
# Files that generate Pathfinder's images. In one process their kernels are compiled once, which takes 18 seconds.
PATHFINDER = {"test_data.py", "test_pathfinder.py", "test_pathfinder_files.py", "test_rungs.py"}
LONG = {"test_workers.py", "test_shared.py", "test_signals.py", "test_cluster.py", "test_gears.py", "test_bench.py",
        "test_user_attention.py"}  # fmt: skip
SLOW_COLLECTION = 0.05  # seconds of a core
PRELOADED = ["lra.experiments.local.worker", "lra.experiments.train_and_test", "lra.training.step",
             "lra.experiments.build", "lra.experiments.pretrain", "lra.experiments.background_compiler"]  # fmt: skip


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("needs a CUDA device")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long tests come first, so that two processes end at nearly the same time."""
    items.sort(key=lambda item: item.path.name not in LONG)


@pytest.hookimpl(optionalhook=True)  # a hook of pytest-xdist, whose --dist loadgroup does nothing under pytest 9.2
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    from xdist.scheduler import LoadScopeScheduling

    class FilesOrTests(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            """The unit of work that a test belongs to: Pathfinder's files, its file, or the test alone."""
            file = nodeid.split("::")[0]
            if Path(file).name in PATHFINDER:
                return "Pathfinder"
            return file if shares_a_fixture(config.rootpath / file) else nodeid

    return FilesOrTests(config, log)


@functools.cache
def shares_a_fixture(path: Path) -> bool:
    return 'scope="module"' in path.read_text(encoding="utf-8")


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """LRA_CACHE of this process. Only inductor's cache is shared by all: inductor locks its files, numba does not."""
    folder = tmp_path_factory.mktemp("cache")
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    os.environ["LRA_CACHE"] = str(folder)
    os.environ.setdefault("NUMBA_CACHE_DIR", str(folder / "numba"))
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(shared / "inductor"))
    return folder


@pytest.fixture(scope="session", autouse=True)
def no_fsync() -> Iterator[None]:
    """No test stops the machine, so that none has to wait for the disk."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        yield


@pytest.fixture(scope="session", autouse=True)
def fewer_collections() -> Iterator[None]:
    """Every run begins with gc.collect(). After a slow one, what is alive is frozen: later ones skip it.

    That is mostly the collected tests, all imports and, once it was used, the compiler.
    """
    began = 0.0

    def freeze(phase: str, info: dict[str, int]) -> None:
        nonlocal began
        if info["generation"] == 2 and phase == "start":
            began = time.process_time()
        elif info["generation"] == 2 and time.process_time() - began > SLOW_COLLECTION:
            gc.freeze()

    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)  # torch.compile makes so many objects that automatic collections are slow
    gc.callbacks.append(freeze)
    yield
    gc.callbacks.remove(freeze)


@pytest.fixture(scope="session")
def forks() -> BaseContext:
    """Forks processes from one that has imported the suite, which a spawned process imports anew, for seconds.

    They have the environment, the terminal and the hash seed of that one. So a test spawns its processes if it sets
    variables for them, reads what they themselves print, or holds that the order of a set does not matter.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    assert all(map(importlib.util.find_spec, PRELOADED)), "the server says nothing of a module that is missing"
    context.set_forkserver_preload(PRELOADED)
    return context


@pytest.fixture
def quick_workers(forks: BaseContext, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command's workers are forked; other tests keep the suite's own way to start them."""
    monkeypatch.setattr("lra.experiments.local.team.CONTEXT", forks)


@pytest.fixture
def quiet_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """bench has a lock of this test's own and finds the machine idle, whatever else runs here."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr("lra.bench.idle.busy_cores", lambda: 0.0)


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests that do not look at pictures: they are not drawn."""
    leave_undrawn(monkeypatch)


@pytest.fixture
def tiny() -> str:
    """The path of a protocol that trains in a second."""
    return str(Path(__file__).parent / "tiny.yaml")
