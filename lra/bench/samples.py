"""Samples to time a step on, without waiting: a few from a task's generator or files, or random ones like a task's.

What a step costs depends on the lengths of its samples, never on their content.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

import tasks
from lra.config.schema import Config
from lra.console import say
from lra.experiments.data import prepare_data
from lra.experiments.run import Run

ROWS = 2000  # samples generated or drawn for a task
BYTES = 256  # different values of a byte or a pixel
SIDE = 32  # of an image
TEXT_BYTES, TEXT_SPREAD = 960.0, 0.8  # median and log deviation of drawn reviews: 69 % padding at 4,096, IMDb 68 %
TEXT_ROWS = (2500, 25_000)  # of validation and test, where the protocol leaves them open
RETRIEVAL_ROWS = (18_090, 17_437)
IMAGE_ROWS = (5000, 10_000)
Few = tuple[tasks.Spec, tasks.Split, tuple[int, int]]  # sizes, training samples, rows of validation and test


def few(run: Run, data_dir: Path | None) -> Few:
    """Samples of one of the five tasks, in LIKE. Raises DataError."""
    return LIKE[run.task](run.config, data_dir)


def listops(config: Config, data_dir: Path | None) -> Few:
    """A few trees from the real generator."""
    settings = config.data
    small = replace(settings, train_rows=min(ROWS, settings.train_rows), validation_rows=16, test_rows=16)
    data = prepare_data("listops", replace(config, data=small), data_dir)
    return data.spec, data.train, (settings.validation_rows, settings.test_rows)


def text(config: Config, data_dir: Path | None) -> Few:
    """The reviews if there are any, else random bytes with lengths like those of reviews."""
    try:
        return whole("text", config, data_dir)
    except tasks.MissingDataError:
        say("text: there is no data, so lengths are drawn")
    length = config.data.length
    spec = tasks.Spec(vocab=BYTES + 1, classes=2, length=length)
    return spec, drawn_text(ROWS, length), declared(config, TEXT_ROWS)


def retrieval(config: Config, data_dir: Path | None) -> Few:
    """The documents if there are any, else random ones of the full length, which nearly all AAN documents have."""
    try:
        return whole("retrieval", config, data_dir)
    except tasks.MissingDataError:
        say("retrieval: there is no data, so documents are drawn")
    rows = 4 * config.train.batch
    documents = uniform(config.data.length, 2 * rows)
    pairs = np.arange(2 * rows, dtype=np.int32).reshape(-1, 2)
    spec = tasks.Spec(vocab=BYTES + 1, classes=2, length=config.data.length, pair=True)
    return spec, replace(documents, labels=documents.labels[:rows], pairs=pairs), declared(config, RETRIEVAL_ROWS)


def image(config: Config, data_dir: Path | None) -> Few:  # noqa: ARG001
    """Random pixels: all images have one length."""
    return pixels(10), uniform(SIDE**2, 2 * config.train.batch), declared(config, IMAGE_ROWS)


def pathfinder(config: Config, data_dir: Path | None) -> Few:  # noqa: ARG001
    """Random pixels, as for `image`."""
    return pixels(2), uniform(SIDE**2, 2 * config.train.batch), declared(config)


LIKE: dict[str, Callable[[Config, Path | None], Few]] = {
    "listops": listops,
    "text": text,
    "retrieval": retrieval,
    "image": image,
    "pathfinder": pathfinder,
}


def whole(task: str, config: Config, data_dir: Path | None) -> Few:
    """A task's own samples. Raises DataError."""
    data = prepare_data(task, config, data_dir)
    return data.spec, data.train, (len(data.validation.labels), len(data.test.labels))


def declared(config: Config, open_: tuple[int, int] = (0, 0)) -> tuple[int, int]:
    """Rows of validation and test in the protocol. open_: those to take where the protocol has 0."""
    return config.data.validation_rows or open_[0], config.data.test_rows or open_[1]


def pixels(classes: int) -> tasks.Spec:
    """The sizes of a task of images."""
    return tasks.Spec(vocab=BYTES, classes=classes, length=SIDE**2, grid=(SIDE, SIDE), padded=False)


def uniform(length: int, rows: int) -> tasks.Split:
    """Random bytes (rows, length), with random labels of two classes."""
    random = np.random.default_rng(0)
    values = random.integers(0, BYTES, (rows, length), dtype=np.uint8)
    return tasks.Split(values, np.full(rows, length, dtype=np.int32), random.integers(0, 2, rows))


def drawn_text(rows: int, longest: int) -> tasks.Split:
    """Random bytes with lengths like those of film reviews."""
    random = np.random.default_rng(0)
    lengths = np.exp(random.normal(np.log(TEXT_BYTES), TEXT_SPREAD, rows)).clip(32, longest).astype(np.int32)
    return tasks.Split(random.integers(0, 255, (rows, longest), dtype=np.uint8), lengths, random.integers(0, 2, rows))
