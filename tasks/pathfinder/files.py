"""The released Pathfinder folders: text metadata, PNG images, and the splits that earlier suites made of them.

From lra_release.gz, the images and metadata of one size and difficulty are unpacked. Where it holds a size twice, as it
does 128 pixels, the folder nearer to its root is read, because the other one is faulty (issue 38 of google-research's
long-range-arena).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from tasks import _release
from tasks._data import DataError, Split
from tasks._files import BOM, Stamp, readable, stamps

LEVELS = {"easy": "curv_baseline", "intermediate": "curv_contour_length_9", "hard": "curv_contour_length_14"}
ROOTS = ("", "lra_release", "lra_release/lra_release")
KNOWN_EMPTY = "pathfinder32/curv_baseline/imgs/0/sample_172.png"  # empty in the release itself
LARGEST = 1 << 24  # bytes of an image or a metadata file; those of the release have at most some 100,000
MOST = 1 << 34  # bytes of one size and difficulty


class Sample(NamedTuple):
    """One image and its label."""

    path: Path
    label: int


def find(data_dir: Path, size: int, difficulty: str) -> Path | None:
    """The folder of this size and difficulty, or None where `data_dir` has no such size. Raises DataError."""
    name = f"pathfinder{size}"
    with readable(data_dir):
        places = [data_dir / root / name / LEVELS[difficulty] for root in ROOTS if (data_dir / root / name).is_dir()]
        for place in places:
            if (place / "metadata").is_dir() and (place / "imgs").is_dir():
                return place
    for place in places:
        raise DataError(
            f"{place} lacks metadata or imgs: unpack {name} of lra_release.gz there, or leave out --data-dir"
        )
    return None


def unpack(archive: Path, size: int, difficulty: str, target: Path, progress: bool) -> Path:
    """Writes this size and difficulty of lra_release.gz below `target` -> its folder there. Raises DataError."""
    name = f"pathfinder{size}/{LEVELS[difficulty]}"
    inside = re.compile(rf"(lra_release/){{0,2}}{name}/(imgs/[0-9]+/sample_[0-9]+\.png|metadata/[0-9]+\.npy)")
    total = 0

    def wanted(path: PurePosixPath) -> bool:
        return bool(inside.fullmatch(str(path)))

    target.mkdir(parents=True, exist_ok=True)
    with _release.reported_damage(archive):
        for path, length, content in _release.regular_files(archive, wanted, LARGEST, progress):
            total += length
            if total > MOST:
                raise DataError(f"{archive}: {name} holds more than {MOST:,} bytes: refused")
            (target / path).parent.mkdir(parents=True, exist_ok=True)
            with (target / path).open("wb") as file:
                _release.copy(content, file, path.name, length)
    place = find(target, size, difficulty)
    if place is None:
        raise DataError(f"{archive} is cut short or another archive: it holds no {name}")
    return place


def stamps_of(place: Path) -> list[Stamp]:
    """Stamps of its metadata files and image folders, which differ once the folder has changed. Raises DataError."""
    with readable():
        return stamps([*_metadata(place), *sorted((place / "imgs").iterdir())])


def read_metadata(place: Path) -> tuple[list[Sample], list[str], str]:
    """Samples by batch number and line; skipped files, a line each; SHA-256 of the metadata. Raises DataError."""
    samples, skipped, digest = [], [], hashlib.sha256()
    for path in _metadata(place):
        try:
            with readable(path):
                content = path.read_bytes()
            lines = content.removeprefix(BOM).decode("ascii").splitlines()
        except UnicodeDecodeError as error:
            raise DataError(f"{path} is not the text that was released: {_CURE}") from error
        if not lines:
            raise DataError(f"{path} is empty: {_CURE}")
        digest.update(content)
        for number, line in enumerate(lines, 1):
            sample = _sample(place, line, f"{path} line {number}")
            if sample.path.as_posix().endswith(f"/{KNOWN_EMPTY}"):
                skipped.append(f"{KNOWN_EMPTY}: empty in the release")
            else:
                samples.append(sample)
    return samples, skipped, digest.hexdigest()


def divide(samples: list[Sample], rule: str, place: Path) -> dict[str, list[Sample]]:
    """80 % train, 10 % validation, 10 % test: of the sorted list, or in the order in which S4 shuffles it."""
    tenth = len(samples) // 10 if rule == "sorted-80-10-10" else int(0.1 * len(samples))
    if not tenth:
        raise DataError(f"{place} names {len(samples)} images, fewer than the 10 that three splits need: {_CURE}")
    order = range(len(samples)) if rule == "sorted-80-10-10" else torch_permutation(len(samples), 42)
    sorted_samples = [samples[at] for at in order]
    cut = len(samples) - 2 * tenth
    parts = sorted_samples[:cut], sorted_samples[cut : cut + tenth], sorted_samples[cut + tenth :]
    return dict(zip(("train", "validation", "test"), parts, strict=True))


def torch_permutation(items: int, seed: int) -> list[int]:
    """The order of torch.randperm(items) on a CPU generator of this seed, as torch.utils.data.random_split uses it."""
    words = np.frombuffer(np.random.RandomState(seed).bytes(4 * items), "<u4").tolist()
    order = list(range(items))
    for at in range(items - 1):
        other = at + words[at] % (items - at)
        order[at], order[other] = order[other], order[at]
    return order


def blocks(samples: list[Sample], size: int, rows: int) -> Iterator[Split]:
    """Decoded images, `rows` at a time. Raises DataError."""
    with ThreadPoolExecutor() as pool:
        for first in range(0, len(samples), rows):
            part = samples[first : first + rows]
            values = np.stack(list(pool.map(lambda sample: decode(sample.path, size), part, chunksize=64)))
            labels = np.array([sample.label for sample in part], np.int64)
            yield Split(values, np.full(len(part), size**2, np.int32), labels)


def decode(path: Path, size: int) -> np.ndarray:
    """The grey levels (size ** 2,) uint8 of a PNG. Raises DataError."""
    from PIL import Image

    try:
        with Image.open(path, formats=["PNG"]) as image:
            if image.size != (size, size):  # checked before decoding: the image may be huge
                raise DataError(f"{path} is {image.height} x {image.width}, not {size} x {size} of 8-bit grey: {_CURE}")
            # a palette's numbers are not grey levels
            values = np.asarray(image.convert("RGBA").convert("L") if image.mode == "P" else image)
    except DataError:
        raise
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        if path.is_file() and not path.stat().st_size:
            raise DataError(f"{path} is empty: {_CURE}") from error
        reason = getattr(error, "strerror", None) or "it is no whole PNG"
        raise DataError(f"cannot read {path}: {reason}; {_CURE}") from error
    if values.shape != (size, size) or values.dtype != np.uint8:
        shape = " x ".join(map(str, values.shape))
        raise DataError(f"{path} is {shape} of {values.dtype}, not {size} x {size} of 8-bit grey: {_CURE}")
    return values.reshape(-1)


_CURE = "copy it from lra_release.gz again"


def _metadata(place: Path) -> list[Path]:
    """The metadata files by number. Raises DataError."""
    found = list((place / "metadata").glob("*.npy"))
    for path in found:
        if not path.stem.isdecimal():
            raise DataError(f"{path} is not named by the number of a batch: {_CURE}")
    if not found:
        raise DataError(f"{place / 'metadata'} holds no .npy files: {_CURE}")
    return sorted(found, key=lambda path: int(path.stem))


def _sample(place: Path, line: str, where: str) -> Sample:
    """The sample of a line: folder, file name, index, label, then what the image was made with. Raises DataError."""
    fields = line.split()
    if len(fields) < 4 or fields[3] not in ("0", "1"):
        raise DataError(f"{where} is not 'imgs/<batch> sample_<i>.png <i> <label> ...': {_CURE}")
    folder, name = Path(fields[0]), Path(fields[1])
    if folder.parts[:1] != ("imgs",) or ".." in folder.parts or name.name != fields[1] or name.suffix != ".png":
        raise DataError(f"{where} names no image under imgs: {_CURE}")
    return Sample(place / folder / name, int(fields[3]))
