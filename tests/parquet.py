"""Small parquet files in the layouts of IMDb and CIFAR-10, for the tests of Text and Image."""

import io
from pathlib import Path

import datasets
import numpy as np
from PIL import Image

datasets.disable_progress_bars()

TEXTS = ["Good.", "", "Não é bom", "x" * 30, "<br />bad", "fine\n", "so so", "dull"]
LABELS = [1, 0, 0, 1, 0, 1, 1, 0]


def write(path: Path, **columns: list) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    datasets.Dataset.from_dict(columns).to_parquet(path)
    return path


def write_reviews(folder: Path, texts: list[str] = TEXTS, labels: list[int] = LABELS) -> Path:
    """The same reviews as training and test split, below folder/imdb/plain_text."""
    place = folder / "imdb" / "plain_text"
    for split in ("train", "test"):
        write(place / f"{split}-00000-of-00001.parquet", text=texts, label=labels)
    return place


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def write_images(folder: Path, pictures: list, labels: list[int]) -> Path:
    """The same pictures as training and test split, below folder/cifar10/plain_text."""
    place = folder / "cifar10" / "plain_text"
    for split in ("train", "test"):
        images = [{"bytes": picture, "path": None} for picture in pictures]
        write(place / f"{split}-00000-of-00001.parquet", img=images, label=labels)
    return place
