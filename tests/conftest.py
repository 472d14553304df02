"""What all tests share: caches of this session, so that the user's are untouched; how processes divide the tests.

`make test` runs two processes (pytest-xdist). A file with a module-scoped fixture is run by one process, so that what
the fixture trains or generates is made once, and so are the files of Pathfinder. The tests of all other files go one by
one to the next free process.
"""

import functools
import gc
import os
import tempfile
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("GOMP_SPINCOUNT", "5000")  # before torch is imported, as the command line does
if "PYTEST_XDIST_WORKER" in os.environ:  # the other test processes need cores, too
    os.environ.setdefault("OMP_NUM_THREADS", "1")
TINY = Path(__file__).parent / "tiny.yaml"
# Files that generate Pathfinder's images. In one process their kernels are compiled once, which takes 18 seconds.
PATHFINDER = {"test_data.py", "test_pathfinder.py", "test_pathfinder_files.py", "test_rungs.py"}


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("needs a CUDA device")


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
def fewer_collections() -> None:
    """Every run begins with gc.collect(), which skips what is frozen here: the collected tests and all imports."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)  # torch.compile makes so many objects that automatic collections are slow


@pytest.fixture
def quiet_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """bench has a lock of this test's own and finds the machine idle, whatever else runs here."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr("lra.bench.idle.busy_cores", lambda: 0.0)


@pytest.fixture
def tiny() -> str:
    """The path of a protocol that trains in a second."""
    return str(TINY)
