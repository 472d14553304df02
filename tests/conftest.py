"""One cache for the whole session, so that numba compiles once, and nothing of the user's is touched."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("GOMP_SPINCOUNT", "5000")  # before torch; as the command line does
TINY = Path(__file__).parent / "tiny.yaml"


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("needs a CUDA device")


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    os.environ["LRA_CACHE"] = str(folder)
    os.environ.setdefault("NUMBA_CACHE_DIR", str(folder / "numba"))
    return folder


@pytest.fixture
def tiny() -> str:
    """Path of a protocol that trains in a second."""
    return str(TINY)
