"""The kinds of raw files that data is prepared from, in the formats of the released data sets."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import aan_files
import listops_text
import numpy as np
import parquet

import tasks
from soak.kinds import Kind, arrays, fresh
from tasks.retrieval import task as retrieval

LISTOPS = tasks.find("listops")
TREES = listops_text.SHORT
TEXT, IMAGE, PATHFINDER = (tasks.find(name) for name in ("text", "image", "pathfinder"))


def source(name: str, folder: Path, files: list[Path], prepare: Callable[[Path], tasks.Data]) -> Kind:
    """A kind whose `read` prepares data from the files into an empty cache; its identity is the hash of the data."""

    def read() -> tuple[Any, Any]:
        with fresh(folder / "cache") as cache:
            data = prepare(cache)
            return data.hash, (data.spec, arrays(data))

    return Kind(name, files, read)


def write_trees(folder: Path) -> list[Path]:
    """Released ListOps files of a few short trees."""
    few = {"train_rows": 12, "validation_rows": 4, "test_rows": 4}
    settings = LISTOPS.settings(min_length=10, max_length=90, max_depth=6, **few)
    listops_text.write_released(folder, LISTOPS.prepare(settings, None, folder / "cache", False))
    return sorted(folder.glob("basic_*.tsv"))


def of_listops(folder: Path) -> Kind:
    files = write_trees(folder)
    return source("ListOps TSV", folder, files, lambda cache: LISTOPS.prepare(TREES, folder, cache, False))


def of_a_release(folder: Path) -> Kind:
    """lra_release.gz, an archive from which the ListOps files are read."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        for path in write_trees(folder):
            tar.add(path, f"lra_release/listops-1000/{path.name}")
            path.unlink()
    path = folder / "lra_release.gz"
    path.write_bytes(gzip.compress(content.getvalue()))
    return source("lra_release.gz", folder, [path], lambda cache: LISTOPS.prepare(TREES, folder, cache, False))


def of_pairs(folder: Path) -> Kind:
    """The released pairs of Retrieval."""
    aan_files.write_released(folder, aan_files.released())
    rows = {"train": 3, "validation": 2, "test": 2}

    def prepare(cache: Path) -> tasks.Data:
        with patch.object(retrieval, "ROWS", rows):
            return aan_files.TASK.prepare(aan_files.OFFICIAL, folder, cache, False)

    return source("AAN TSV", folder, sorted(folder.glob("*.tsv")), prepare)


def of_papers(folder: Path) -> Kind:
    """The documents of Retrieval, as parquet, and the list of pairs."""
    aan_files.write_compact(folder)
    files = [folder / "aan" / name for name in ("docs.parquet", "pairs.tsv")]
    settings = aan_files.SETTINGS
    return source("AAN parquet", folder, files, lambda cache: aan_files.TASK.prepare(settings, folder, cache, False))


def of_reviews(folder: Path) -> Kind:
    place = parquet.write_reviews(folder)
    settings = TEXT.settings(length=20, validation_rows=2)
    files = sorted(place.glob("*.parquet"))
    return source("IMDb parquet", folder, files, lambda cache: TEXT.prepare(settings, folder, cache, False))


def of_pictures(folder: Path) -> Kind:
    draw = np.random.default_rng(0)
    pictures = [parquet.png(draw.integers(0, 256, (32, 32, 3), np.uint8)) for _ in range(12)]
    place = parquet.write_images(folder, pictures, [number % 10 for number in range(12)])
    files = sorted(place.glob("*.parquet"))
    return source(
        "CIFAR-10 parquet", folder, files, lambda cache: IMAGE.prepare(IMAGE.settings(), folder, cache, False)
    )


def of_snakes(folder: Path) -> Kind:
    """A released Pathfinder folder: images and the metadata that lists their names and labels."""
    from test_pathfinder_files import SETTINGS, write

    place = folder / "pathfinder32" / "curv_contour_length_14"
    write(place)
    files = [*sorted(place.glob("metadata/*")), *sorted(place.glob("imgs/*/*.png"))]
    return source("Pathfinder folder", folder, files, lambda cache: PATHFINDER.prepare(SETTINGS, folder, cache, False))


READ = (of_listops, of_a_release, of_pairs, of_papers, of_reviews, of_pictures, of_snakes)
