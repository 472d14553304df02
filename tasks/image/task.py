"""Image: the class of a 32 x 32 picture in grey, one token per pixel (CIFAR-10, Krizhevsky 2009).

https://www.cs.toronto.edu/~kriz/learning-features-2009-TR.pdf, in the form of Tay et al. 2020
(https://arxiv.org/abs/2011.04006).
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from tasks import _draws, _ladders, _numba, _parquet, _progress, _sources, _store
from tasks._data import Data, DataError, Spec, Split
from tasks._task import Network, Task

if TYPE_CHECKING:
    from tqdm import tqdm

ENCODING = "grey v1"  # raised when the same files and settings give other arrays
BLOCK = 2500  # images written at a time
SIDE = 32
NAMES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
BATCH = 10_000  # images in each of the five files in which CIFAR-10's training images were released
# The first digits of the SHA-256 of their pixels.
BATCHES = ("fc115a3de050d667", "89e609b642f687bc", "93a365823e617294", "809eb95ecd057a36", "d05b7d66d216d6df")
HOME = _sources.Home(
    name="cifar10",
    repository="uoft-cs/cifar10",
    revision="0b2714987fa478483af9968de7c934580d0bb9a2",
    rows={"train": 50_000, "test": 10_000},
    terms="CIFAR-10 (Krizhevsky 2009): no licence is stated, its authors ask to be cited",
)


@dataclass(frozen=True)
class Settings:
    """The `data` section of a protocol for Image."""

    seed: int = 0  # fixes which images are held out or drawn; the `--seed` of a run does not change them
    grey: Literal["luma", "pil"] = "luma"  # how colours become grey: by TensorFlow's weights and rounding, or Pillow's
    # the tenth of the training images to hold out: the last one, or one drawn by `seed`, equally many of each class
    image_validation: Literal["last", "seeded"] = "last"
    train_rows: int = 0  # images to train on; 0: all that remain
    validation_rows: int = 0  # images to validate on; 0: all that are held out
    test_rows: int = 0  # images to test on; 0: all


class Image(Task):
    """Values are the grey pixels, row by row, and serve as ids; samples are grouped by class."""

    name = "image"
    title = "Image"
    images = True
    size = SIDE
    settings = Settings
    networks = {"patch MLP": Network(kind="patches", width=128, steps=1000)}  # noqa: RUF012

    def prepare(self, settings: Settings, data_dir: Path | None, cache: Path, progress: bool) -> Data:
        """The CIFAR-10 files of a data directory, else of the hub. Raises DataError."""
        _numba.use_cache(cache)
        used = {"encoding": ENCODING, "settings": asdict(settings)}

        def build(found: _sources.Found, folder: Path) -> _store.Built:
            return _build(settings, used, found, folder, progress)

        return _sources.prepare(self.name, HOME, used, (data_dir, cache), build)

    def climb(self, data: Data) -> dict[str, float]:
        """Constant; linear models of the pixels and of pooled random patches. `data ladder` adds a patch MLP on top."""
        from tasks.image import ladder

        _ladders.need_sklearn()
        return {"constant": _ladders.constant(data), **ladder.linear_rungs(data)}

    def quick_rungs(self, data: Data) -> dict[str, float]:
        """The constant alone: the linear models take minutes and scikit-learn."""
        return {"constant": _ladders.constant(data)}


def _build(
    settings: Settings, used: dict[str, Any], found: _sources.Found, folder: Path, progress: bool
) -> _store.Built:
    """Fills a cache folder from the parquet files."""
    files = found.fetch()
    with _progress.bar("Reading Image", " images", None, progress) as bar:
        images = {split: _read(paths, folder, bar) for split, paths in files.items()}
    counts = {split: len(labels) for split, (_, labels) in images.items()}
    order = original_order(images["train"][0])
    if order is not None:
        pixels, labels = images["train"]
        images["train"] = pixels[order], labels[order]
    drawn = _split(settings, images["train"][1], images["test"][1])
    digests = {}
    for split, (source, rows) in drawn.items():
        blocks = _blocks(*images[source], rows, settings.grey)
        digests[split] = _store.write_split(folder, split, (len(rows), SIDE * SIDE), blocks)
    named = "the released order" if order is not None else "the files' own order, which is not the released one"
    about = {
        **_sources.describe(Image.name, HOME, found, files, counts),
        **used,
        "seed": settings.seed,
        "rows": {split: len(rows) for split, (_, rows) in drawn.items()},
        "split_rule": f"validation: a tenth of the training images, {settings.image_validation}; images in {named}",
        "split_hash": {split: _draws.hash_of(rows) for split, (_, rows) in drawn.items()},
    }
    spec = Spec(vocab=256, classes=len(NAMES), length=SIDE * SIDE, grid=(SIDE, SIDE), padded=False)
    return _store.Built(spec, about, digests, {"class": NAMES})


def _read(paths: list[Path], folder: Path, bar: tqdm) -> tuple[np.ndarray, np.ndarray]:
    """Pixels (R, 1024, 3) uint8 and labels (R,). Raises DataError."""
    pixels, labels = [], []
    for path in paths:
        first = 0
        for block in _parquet.blocks(path, ["img", "label"], folder):
            labels.append(_parquet.labels_of(block, path, first, len(NAMES)))
            pixels.append(_decode(block, path, first))
            first += len(block)
            bar.update(len(block))
    return np.concatenate(pixels), np.concatenate(labels)


def _decode(block: Any, path: Path, first: int) -> np.ndarray:
    """The column `img` -> (R, 1024, 3) uint8, on all cores. Raises DataError with the row of a broken picture."""
    from PIL import Image as Pillow

    from tasks._threads import in_threads

    fields = block.select(["img"]).flatten()
    if "img.bytes" not in fields.column_names:
        raise DataError(f"{path}: the column 'img' must hold pictures as {{bytes, path}}, it is {block['img'].type}")
    files = fields["img.bytes"].to_pylist()
    if not all(isinstance(file, bytes | None) for file in files):
        raise DataError(f"{path}: the column 'img' must hold pictures as {{bytes, path}}, it is {block['img'].type}")
    pixels = np.empty((len(files), SIDE, SIDE, 3), np.uint8)
    Pillow.init()  # before the threads start, because it is not safe in them

    def work(rows: slice) -> None:
        for row in range(rows.start, rows.stop):
            fault = _picture(files[row] or b"", pixels[row])
            if fault:
                raise DataError(f"{path} row {first + row}: the picture {fault}; copy or download the file again")

    in_threads(work, len(files))
    return pixels.reshape(len(files), SIDE * SIDE, 3)


def _picture(content: bytes, pixels: np.ndarray) -> str:
    """Decodes a picture into pixels (32, 32, 3) -> what is wrong with it, or nothing."""
    from PIL import Image as Pillow

    if not content:
        return "is empty"
    try:
        with Pillow.open(io.BytesIO(content), formats=("PNG", "WEBP")) as picture:
            if picture.mode not in ("RGB", "P") or picture.size != (SIDE, SIDE):
                return f"is {picture.mode} {picture.width} x {picture.height}, not RGB {SIDE} x {SIDE}"
            if picture.mode == "P":  # a palette's numbers are not colours
                pixels[:] = np.asarray(picture.convert("RGBA"))[..., :3]
            else:
                pixels[:] = np.asarray(picture)
    except (OSError, ValueError, SyntaxError, Pillow.DecompressionBombError, Pillow.DecompressionBombWarning) as error:
        return f"cannot be read: {str(error).splitlines()[0]}"
    return ""


def original_order(pixels: np.ndarray) -> np.ndarray | None:
    """The order in which the 50,000 training images were first released, or None for other images.

    The hub stores the five released files in another order, so that `last` would hold out other images there.
    """
    blocks = range(0, len(pixels), BATCH)
    found = [hashlib.sha256(pixels[first : first + BATCH].data).hexdigest()[:16] for first in blocks]
    if sorted(found) != sorted(BATCHES):
        return None
    return np.concatenate([np.arange(BATCH) + BATCH * found.index(batch) for batch in BATCHES])


def _split(settings: Settings, train: np.ndarray, test: np.ndarray) -> dict[str, tuple[str, np.ndarray]]:
    """Split -> which files and which rows of them, from their labels. Raises DataError for more rows than there are."""
    name, seed, rows = Image.name, settings.seed, np.arange(len(train))
    if len(rows) < 10:
        raise DataError(f"image: {len(rows)} training images are too few to hold out a tenth")
    held = rows[-(len(rows) // 10) :]
    if settings.image_validation == "seeded":
        held = _draws.part(name, "held-out", seed, train, len(rows) // 10)
    rest = np.delete(rows, held)
    tested = _draws.part(name, "test_rows", seed, test, settings.test_rows)
    kept = rest[_draws.part(name, "train_rows", seed, train[rest], settings.train_rows)]
    held = held[_draws.part(name, "validation_rows", seed, train[held], settings.validation_rows)]
    return {"train": ("train", kept), "validation": ("train", held), "test": ("test", tested)}


def _blocks(pixels: np.ndarray, labels: np.ndarray, rows: np.ndarray, rule: str) -> Iterator[Split]:
    for first in range(0, len(rows), BLOCK):
        block = rows[first : first + BLOCK]
        lengths = np.full(len(block), SIDE * SIDE, np.int32)
        yield Split(
            grey(pixels[block], rule), lengths, labels[block], {"class": (NAMES, labels[block].astype(np.uint8))}
        )


def grey(pixels: np.ndarray, rule: str) -> np.ndarray:
    """Colours (..., 3) uint8 -> grey (...) uint8.

    luma: the steps of tf.image.rgb_to_grayscale in float32, floor(255.5 (0.2989 R + 0.5870 G + 0.1140 B) / 255); pil:
    Pillow's conversion to "L", (19595 R + 38470 G + 7471 B + 32768) >> 16.
    """
    if rule == "pil":
        red, green, blue = (pixels[..., channel].astype(np.int32) for channel in range(3))
        return ((19595 * red + 38470 * green + 7471 * blue + 32768) >> 16).astype(np.uint8)
    weights = np.array([0.2989, 0.5870, 0.1140], np.float32)
    scaled = [weights[channel] * (pixels[..., channel] * np.float32(1 / 255)) for channel in range(3)]
    return ((scaled[0] + scaled[1] + scaled[2]) * np.float32(255.5)).astype(np.uint8)


task = Image()
