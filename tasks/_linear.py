"""Rungs that several ladders share: the commonest answer, and a linear model of any features."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from tasks._task import Data, DataError


def constant(data: Data) -> float:
    """Accuracy on the test split of the commonest label of the training split."""
    return float((data.test.labels == np.bincount(data.train.labels).argmax()).mean())


def linear(train: Any, train_labels: np.ndarray, test: Any, test_labels: np.ndarray, strength: float) -> float:
    """Test accuracy of a logistic regression of features (R, F), dense or sparse; strength: scikit-learn's C.

    Raises DataError without scikit-learn.
    """
    need_sklearn()
    from sklearn.linear_model import LogisticRegression

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it stopped at 200 steps
        model = LogisticRegression(C=strength, max_iter=200).fit(train, train_labels)
    return float((model.predict(test) == test_labels).mean())


def need_sklearn() -> None:
    """Raises DataError without scikit-learn."""
    try:
        import sklearn  # noqa: F401
    except ImportError as error:
        raise DataError("this ladder needs scikit-learn: pip install -e '.[ladder]'") from error
