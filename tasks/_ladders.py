"""Ladders: what trivial baselines of a task score; one JSON file per data hash, shipped or beside the data.

The rungs that several ladders share are here, too: the commonest label, and linear models.
"""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks._data import DataError
from tasks._files import whole
from tasks._intact import digest_of

if TYPE_CHECKING:
    from tasks._data import Data

ROOT = Path(__file__).parent.parent
SHIPPED = (ROOT / "results" / "ladders", ROOT / "lra" / "_data" / "ladders")  # in the repository, in the wheel
ROUNDS = 8  # Newton steps; the loss is convex and flat by then
Blocks = Callable[[], Iterable[tuple[np.ndarray, np.ndarray]]]


def find_ladder(data: Data, file_hash: str = "") -> dict[str, float] | None:
    """The stored ladder of this data, or None; an unreadable file counts as none.

    file_hash: the hash of a user's task file. Only a ladder that this version of the file computed is returned, since
    an edit of its `climb` does not change the data.
    """
    for folder in (*SHIPPED, data.folder):
        try:
            stored = json.loads((folder / _name(data)).read_text(encoding="utf-8"))
            rungs = {rung: float(accuracy) for rung, accuracy in stored["rungs"].items()}
            valid = stored.get("digest") in (None, digest_of(stored))  # older files have none
            valid &= stored.get("file_hash", "") == file_hash
            if valid and stored["hash"] == data.hash and all(0 <= accuracy <= 1 for accuracy in rungs.values()):
                return rungs
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            continue
    return None


def store_ladder(folder: Path, data: Data, rungs: dict[str, float], file_hash: str = "") -> Path:
    """Writes `folder/task-hash.json` {task, hash, about, rungs, digest}, all or nothing. Raises OSError.

    file_hash: the hash of a user's task file, which is written, too.
    """
    path = folder / _name(data)
    content = {"task": data.about["task"], "hash": data.hash, "about": data.about, "rungs": rungs}
    content |= {"file_hash": file_hash} if file_hash else {}
    content["digest"] = digest_of(content)
    folder.mkdir(parents=True, exist_ok=True)
    for leftover in folder.glob(f".{path.name}.*.tmp"):  # of a process that was killed
        if time.time() - leftover.stat().st_mtime > 3600:
            leftover.unlink(missing_ok=True)
    with whole(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return path


def checked(task: str, rungs: Any) -> dict[str, float]:
    """The rungs that a task's `climb` returned, as plain floats. Raises DataError for anything but accuracies."""
    fault = "" if isinstance(rungs, dict) else f"not {type(rungs).__name__}"
    for rung, accuracy in rungs.items() if not fault else ():
        try:
            good = isinstance(rung, str) and 0 <= float(accuracy) <= 1
        except (TypeError, ValueError):
            good = False
        fault = fault or ("" if good else f"not {str(rung)[:100]!r}: {str(accuracy)[:100]}")
    if fault:
        raise DataError(f"{task}: climb gives accuracies as fractions of 1, such as {{'constant': 0.1}}, {fault}")
    return {rung: float(accuracy) for rung, accuracy in rungs.items()}


def _name(data: Data) -> str:
    return f"{data.about['task']}-{data.hash}.json"


def constant(data: Data) -> float:
    """Accuracy on the test split of the commonest label of the training split."""
    return float((data.test.labels == np.bincount(data.train.labels).argmax()).mean())


def logistic(blocks: Blocks, width: int, ridge: float) -> np.ndarray:
    """Weights (F,) float64 of a logistic regression of two classes, by Newton's method.

    `blocks()` yields the training rows in blocks: features (B, F), with a column of ones for a constant term, if there
    is one, and labels (B,). `ridge` is the factor of the squared weights in the loss, that of the constant included.
    """
    weights = np.zeros(width)
    for _ in range(ROUNDS):
        gradient, curvature = ridge * weights, ridge * np.eye(width)
        for x, labels in blocks():
            chance = 1 / (1 + np.exp(-np.clip(x @ weights, -30, 30)))
            gradient += x.T @ (chance - labels).astype(x.dtype)
            curvature += x.T @ (x * (chance * (1 - chance)).astype(x.dtype)[:, None])
        weights -= np.linalg.solve(curvature, gradient)
    return weights


def sklearn_logistic(
    train: Any, train_labels: np.ndarray, test: Any, test_labels: np.ndarray, strength: float
) -> float:
    """Test accuracy of a logistic regression of features (R, F), dense or sparse; strength: scikit-learn's C.

    For ten classes, or for hundreds of thousands of features F, with which Newton's method would need a matrix (F, F).
    Raises DataError without scikit-learn.
    """
    need_sklearn()
    from sklearn.linear_model import LogisticRegression

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn warns where it stops at 200 steps
        model = LogisticRegression(C=strength, max_iter=200).fit(train, train_labels)
    return float((model.predict(test) == test_labels).mean())


def need_sklearn() -> None:
    """Raises DataError without scikit-learn."""
    try:
        import sklearn  # noqa: F401
    except ImportError as error:
        raise DataError("this ladder needs scikit-learn: pip install -e '.[ladder]'") from error
