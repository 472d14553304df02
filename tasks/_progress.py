"""Progress bars on stderr; they stay silent where stderr is no terminal."""

from collections.abc import Iterable, Iterator
from typing import Any

from tqdm import tqdm

from tasks._data import Split


def bar(title: str, unit: str, total: int | None, progress: bool) -> tqdm:
    """A bar that disappears when it is done; with progress=False there is none."""
    return tqdm(desc=title, **_look(unit, total, progress))


def reading(file: Any, title: str, total: int, progress: bool) -> Any:
    """A context whose value reads from a binary file and moves a bar."""
    return tqdm.wrapattr(file, "read", desc=title, **_look("B", total, progress))


def _look(unit: str, total: int | None, progress: bool) -> dict[str, Any]:
    return {"total": total, "unit": unit, "unit_scale": True, "disable": None if progress else True, "leave": False}


def watched(blocks: Iterable[Split], shown: tqdm) -> Iterator[Split]:
    """The same blocks; each moves the bar by its rows."""
    for block in blocks:
        yield block
        shown.update(len(block.labels))
