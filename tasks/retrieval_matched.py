"""Retrieval on pairs whose negatives are cited as often as the positives, so that popularity alone tells nothing."""

from dataclasses import dataclass
from typing import Literal

from tasks.retrieval import task as retrieval


@dataclass(frozen=True)
class Settings(retrieval.Settings):
    """The `data` section of a protocol for Retrieval, with matched pairs as the default."""

    retrieval_pairs: Literal["official", "uniform", "matched"] = "matched"


class RetrievalMatched(retrieval.Retrieval):
    """The data of Retrieval with `data.retrieval_pairs=matched`."""

    name = "retrieval_matched"
    title = "Retrieval, matched pairs"
    settings = Settings


task = RetrievalMatched()
