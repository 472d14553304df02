"""Pathfinder of any size: do two markers lie on the same dashed curve, or on two?

Linsley et al. 2018 (https://arxiv.org/abs/1805.08315) with the parameters of Tay et al. 2020
(https://arxiv.org/abs/2011.04006): generated here from a seed, or read from the released folders.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

import numpy as np

from tasks import _numba, _progress, _release, _sources, _store
from tasks._data import GENERATED, OFFICIAL, SPLITS, USERS_FILES, Data, DataError, Spec, Split, check_ranges, printable
from tasks._task import Network, Task

if TYPE_CHECKING:
    from tqdm import tqdm

    from tasks.pathfinder.images import Generator

GENERATOR = "generator v1"  # raised when the same settings give other images
PADDLES = {"easy": 6, "intermediate": 9, "hard": 14}
SPREAD = {32: 20, 64: 22, 128: 35, 256: 30}  # by image size: paddles of all short snakes together, about
BLOCK = 1 << 24  # pixels made at a time; does not change the images
RELEASED = 200_000  # images of one size and difficulty, the empty one included
HASHED = 100  # images of a streamed split that its hash covers


@dataclass(frozen=True)
class Settings:
    """The `data` section of a protocol for Pathfinder. With released images only difficulty and split_rule matter."""

    seed: int = 0  # fixes the generated images; the `--seed` of a run does not change them
    train_rows: int = 160_000  # generated images to train on
    validation_rows: int = 20_000  # generated images to validate on
    test_rows: int = 20_000  # generated images to test on
    difficulty: Literal["easy", "intermediate", "hard"] = "hard"  # 6, 9 or 14 paddles (dashes) in a long snake
    # short snakes that are tried in an image; 0: as many as LRA's formula gives (10 for easy, 6 for intermediate, 5 for
    # hard images at 32 pixels; 17, 11, 8 at 128 pixels)
    distractors: int = 0
    # images from files: the sorted list cut into 80, 10 and 10 %, or the same shares in the order of S4's shuffle
    split_rule: Literal["sorted-80-10-10", "s4"] = "sorted-80-10-10"


class Pathfinder(Task):
    """Values are grey levels, row by row; label 1 where both markers end the same snake."""

    settings = Settings
    images = True
    networks: ClassVar = {"small CNN": Network(kind="convolutions", width=16, steps=1000, batch=64)}

    def prepare(self, settings: Settings, data_dir: Path | None, cache: Path, progress: bool) -> Data:
        """Reads the images in `data_dir`, else LRA_DATA, if it has any, unpacked or not; else generates them.

        Without either folder, images from files that `data unpack` brought here are preferred to generated ones.
        Raises DataError.
        """
        from tasks.pathfinder import files

        _numba.use_cache(cache)
        source = _sources.data_folder(data_dir)
        place = files.find(source, self.size, settings.difficulty) if source else None
        if place:
            return self._read(settings, place, cache, progress)
        archive = _release.find_archive(source) if source else None
        if archive:
            return self._unpack(settings, archive, cache, progress)
        unpacked = None if source else _store.find_unpacked(cache, self.name, _released(settings))
        if unpacked:
            return unpacked
        self.check(settings)
        folder = _store.folder_for(cache, self.name, {"source": GENERATOR, **self._used(settings)})
        if self.streamed:
            return self._stream(settings, folder)
        return _store.obtain(folder, lambda new: self._generate(settings, new, progress))

    def climb(self, data: Data) -> dict[str, float]:
        """Constant, grey histogram, distance of the markers, lit path. `data ladder` adds a small CNN."""
        _numba.use_cache(data.folder.parent)
        from tasks.pathfinder import ladder

        return ladder.climb(data)

    def check(self, settings: Settings) -> None:
        """Raises DataError for a setting outside its range."""
        rows = dict.fromkeys(("train_rows", "validation_rows", "test_rows"), (1, 100_000_000))
        check_ranges(self.name, settings, {**rows, "distractors": (0, 100)})

    def generator(self, settings: Settings, split: str) -> Generator:
        """The images of a split, one by one and in any order."""
        from tasks.pathfinder.images import Generator

        paddles = PADDLES[settings.difficulty]
        return Generator(self.size, settings.seed, split, (paddles, paddles // 3), self.distractors_of(settings))

    def distractors_of(self, settings: Settings) -> int:
        """How many short snakes are tried: the setting, or LRA's own number for this size and difficulty.

        LRA's formula depends on the difficulty; the authors' script may have used the easy images' number for all.
        """
        return settings.distractors or SPREAD[self.size] // (PADDLES[settings.difficulty] // 3)

    def _used(self, settings: Settings) -> dict[str, Any]:
        used = {name: value for name, value in asdict(settings).items() if name != "split_rule"}
        return used | {"distractors": self.distractors_of(settings)}

    def _spec(self) -> Spec:
        return Spec(vocab=256, classes=2, length=self.size**2, grid=(self.size, self.size), padded=False)

    def _about(self, settings: Settings) -> dict[str, Any]:
        return {
            "task": self.name,
            "label": GENERATED,
            "source": GENERATOR,
            "settings": self._used(settings),
            "seed": settings.seed,
            "split_rule": "a stream per split",
            "sha256": {},
            "rows": {split: getattr(settings, f"{split}_rows") for split in SPLITS},
        }

    def _stream(self, settings: Settings, folder: Path) -> Data:
        """Splits whose images are made when read; the hash covers settings, version and the first images."""
        from tasks.pathfinder.stream import Streamed

        splits, digest = {}, hashlib.sha256(json.dumps([GENERATOR, self.size, self._used(settings)]).encode())
        for split in SPLITS:
            generator, rows = self.generator(settings, split), getattr(settings, f"{split}_rows")
            values = cast("np.ndarray", Streamed(generator, rows))
            splits[split] = Split(values, np.full(rows, self.size**2, np.int32), generator.labels(rows))
            digest.update(values[:HASHED].data)
        about = {**self._about(settings), "streamed": True}
        return Data(spec=self._spec(), **splits, hash=digest.hexdigest()[:12], about=about, folder=folder)

    def _generate(self, settings: Settings, folder: Path, progress: bool) -> _store.Built:
        """Fills a cache folder with generated images."""
        about = self._about(settings)
        with self._bar("Generating", about, progress) as shown:
            blocks = {split: self._blocks(settings, split, rows) for split, rows in about["rows"].items()}
            return self._write(folder, about, blocks, shown)

    def _blocks(self, settings: Settings, split: str, rows: int) -> Iterator[Split]:
        generator, step = self.generator(settings, split), BLOCK // self.size**2
        labels = generator.labels(rows)
        for first in range(0, rows, step):
            part = slice(first, min(first + step, rows))
            values = generator.images(np.arange(part.start, part.stop))
            yield Split(values, np.full(len(values), self.size**2, np.int32), labels[part])

    def _read(self, settings: Settings, place: Path, cache: Path, progress: bool) -> Data:
        """Released images, encoded once."""
        from tasks.pathfinder import files

        used = _released(settings)
        folder = _store.folder_for(cache, self.name, {"source": files.stamps_of(place), **used})
        return _store.obtain(folder, lambda new: self._encode(used, place, new, progress))

    def _unpack(self, settings: Settings, archive: Path, cache: Path, progress: bool) -> Data:
        """Released images of lra_release.gz, encoded once; until then the PNG files are in the new folder."""
        from tasks.pathfinder import files

        used = _released(settings)
        folder = _store.folder_for(cache, self.name, {"source": _release.stamp_of(archive), **used})

        def build(new: Path) -> _store.Built:
            images = new / "images"
            try:
                place = files.unpack(archive, self.size, settings.difficulty, images, progress)
                return self._encode(used, place, new, progress, source=archive.name)
            except DataError as error:
                raise DataError(str(error).replace(str(images), str(archive))) from error
            finally:
                shutil.rmtree(images, ignore_errors=True)

        return _store.obtain(folder, build)

    def _encode(
        self, used: dict[str, str], place: Path, folder: Path, progress: bool, source: str = ""
    ) -> _store.Built:
        """Fills a cache folder from released images."""
        from tasks.pathfinder import files

        samples, skipped, digest = files.read_metadata(place)
        splits = files.divide(samples, used["split_rule"], place)
        about = {
            "task": self.name,
            "label": OFFICIAL if len(samples) + len(skipped) == RELEASED else USERS_FILES,
            "source": source or printable(place),
            "settings": used,
            "seed": None,
            "split_rule": used["split_rule"],
            "sha256": {"metadata": digest},
            "rows": {split: len(part) for split, part in splits.items()},
            "skipped": skipped,
        }
        with self._bar("Reading", about, progress) as shown:
            step = BLOCK // self.size**2
            blocks = {split: files.blocks(part, self.size, step) for split, part in splits.items()}
            return self._write(folder, about, blocks, shown)

    def _bar(self, doing: str, about: dict[str, Any], progress: bool) -> tqdm:
        return _progress.bar(f"{doing} {self.title}", " images", sum(about["rows"].values()), progress)

    def _write(
        self, folder: Path, about: dict[str, Any], blocks: dict[str, Iterator[Split]], shown: tqdm
    ) -> _store.Built:
        digests = {
            split: _store.write_split(
                folder, split, (about["rows"][split], self.size**2), _progress.watched(parts, shown)
            )
            for split, parts in blocks.items()
        }
        return _store.Built(self._spec(), about, digests, {})


def _released(settings: Settings) -> dict[str, str]:
    """The settings that shape released data."""
    return {"difficulty": settings.difficulty, "split_rule": settings.split_rule}


class Pathfinder32(Pathfinder):
    """Images of 32 x 32 pixels, the fifth task of the arena."""

    name = "pathfinder"
    title = "Pathfinder"
    size = 32


task = Pathfinder32()
