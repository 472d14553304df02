"""The frame of every test: caches of the session's own, so that nothing of the user's is touched; how tests are shared.

`make test` runs two processes (pytest-xdist). Tests that share a fixture of their module stay in one process, so that
what the fixture trains or generates is made once; all others go to whichever process is free. A test that must not run
beside certain others carries `@pytest.mark.xdist_group("name")`: tests of one group run one after another.
"""

import os
from pathlib import Path

import pytest

os.environ.setdefault("GOMP_SPINCOUNT", "5000")  # before torch, as the command line does
if "PYTEST_XDIST_WORKER" in os.environ:  # the other processes need cores, too
    os.environ.setdefault("OMP_NUM_THREADS", "1")
TINY = Path(__file__).parent / "tiny.yaml"


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("needs a CUDA device")


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if shares_a_fixture(item) and item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group(item.path.stem))


def shares_a_fixture(item: pytest.Item) -> bool:
    """Does the test use a fixture that its module makes only once?"""
    fixtures = item._fixtureinfo.name2fixturedefs.values() if isinstance(item, pytest.Function) else ()
    return any(definition.scope == "module" for definitions in fixtures for definition in definitions)


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """LRA_CACHE of this process. All share what inductor compiled: it locks its files, which numba does not."""
    folder = tmp_path_factory.mktemp("cache")
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    os.environ["LRA_CACHE"] = str(folder)
    os.environ.setdefault("NUMBA_CACHE_DIR", str(folder / "numba"))
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(shared / "inductor"))
    return folder


@pytest.fixture
def tiny() -> str:
    """The path of a protocol that trains in a second."""
    return str(TINY)
