"""Image: both conversions to grey by hand and against Pillow, splits, the released order, broken files."""

import hashlib
import io
import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from parquet import png, write_images
from PIL import Image

import tasks
from tasks import DataError

TASK = tasks.find("image")
MODULE = sys.modules["tasks.image.task"]
REAL = os.environ.get("LRA_DATA", "")
ROWS = 40


@pytest.fixture(autouse=True)
def no_data(monkeypatch):
    monkeypatch.delenv("LRA_DATA", raising=False)


@pytest.fixture(scope="module")
def colours():
    """(ROWS, 32, 32, 3): row r is r everywhere but in its first three pixels, which are red, green and blue."""
    pixels = np.repeat(np.arange(ROWS, dtype=np.uint8), 32 * 32 * 3).reshape(ROWS, 32, 32, 3)
    pixels[:, 0, :3] = np.diag([255, 255, 255])
    return pixels


@pytest.fixture
def folder(tmp_path, colours):
    write_images(tmp_path / "data", [png(picture) for picture in colours], [row % 10 for row in range(ROWS)])
    return tmp_path / "data"


def prepare(folder, **change):
    return TASK.prepare(replace(TASK.settings(), **change), folder, folder.parent / "cache", False)


def test_numba_keeps_what_it_compiled_per_state_of_the_sources(folder, monkeypatch):
    monkeypatch.delenv("NUMBA_CACHE_DIR")
    prepare(folder)
    assert Path(os.environ["NUMBA_CACHE_DIR"]).name.startswith("numba-")


@pytest.mark.parametrize(
    ("colour", "luma", "pil"),
    [
        ((0, 0, 0), 0, 0),
        ((255, 255, 255), 255, 255),
        ((255, 0, 0), 76, 76),  # 76.37, 76.74
        ((0, 255, 0), 149, 150),  # 149.98, 150.19
        ((0, 0, 255), 29, 29),  # 29.13, 29.57
        ((100, 150, 200), 141, 141),  # 140.74 by the weights; 141.02, 141.25
        ((50, 100, 150), 90, 91),  # 90.92, 91.25
    ],
)
def test_grey_by_hand(colour, luma, pil):
    pixel = np.array([[colour]], np.uint8)
    assert MODULE.grey(pixel, "luma").item() == luma
    assert MODULE.grey(pixel, "pil").item() == pil
    assert Image.fromarray(pixel).convert("L").getpixel((0, 0)) == pil


def test_greys_over_all_colours():
    """Pillow's grey is one higher on 26 % of colours, never lower; luma differs from exact sums only near ties."""
    pixels = np.random.default_rng(0).integers(0, 256, (1000, 1000, 3), dtype=np.uint8)
    luma, pil = MODULE.grey(pixels, "luma").astype(int), MODULE.grey(pixels, "pil").astype(int)
    assert set(np.unique(pil - luma)) == {0, 1}
    assert (pil != luma).mean() == pytest.approx(0.262, abs=0.002)
    assert (pil == np.asarray(Image.fromarray(pixels).convert("L"))).all()
    exact = 511 * (pixels.astype(np.int64) @ [2989, 5870, 1140]) // 5_100_000
    assert (luma != exact).mean() < 1e-4


def test_samples(folder):
    data = prepare(folder)
    assert data.spec == tasks.Spec(vocab=256, classes=10, length=1024, grid=(32, 32), padded=False)
    assert data.about["rows"] == {"train": 36, "validation": 4, "test": 40}
    assert data.test.values[7, :5].tolist() == [76, 149, 29, 7, 7]
    assert data.train.values[0, :5].tolist() == [76, 149, 29, 0, 0]
    assert data.validation.values[:, 9].tolist() == [36, 37, 38, 39]
    assert (data.test.lengths == 1024).all()
    assert data.test.labels.tolist() == [row % 10 for row in range(ROWS)]
    assert data.test.groups["class"][0][3] == "cat"
    assert (data.test.groups["class"][1] == data.test.labels).all()
    assert "not the released one" in data.about["split_rule"]
    pil = prepare(folder, grey="pil")
    assert pil.test.values[7, :5].tolist() == [76, 150, 29, 7, 7]
    assert pil.hash != data.hash


def test_palettes(tmp_path, folder, colours):
    """Pictures stored as palette indices, also with a transparent colour, have the palette's colours."""
    pictures = [Image.fromarray(colour).quantize(8) for colour in colours]
    expected = [np.asarray(picture.convert("RGB")) for picture in pictures]
    for change in ({}, {"transparency": b"\0\xff"}):
        files = [io.BytesIO() for _ in pictures]
        for picture, file in zip(pictures, files, strict=True):
            picture.save(file, "PNG", **change)
        write_images(tmp_path / "palettes", [file.getvalue() for file in files], [row % 10 for row in range(ROWS)])
        data = prepare(tmp_path / "palettes")
        assert (data.test.values == MODULE.grey(np.stack(expected), "luma").reshape(ROWS, -1)).all()
    assert prepare(folder).about["label"] == "user's files"


def test_drawn_splits(folder):
    data = prepare(folder, image_validation="seeded", train_rows=20, validation_rows=2, test_rows=10)
    assert data.about["rows"] == {"train": 20, "validation": 2, "test": 10}
    assert np.bincount(data.test.labels).tolist() == [1] * 10
    assert not set(data.train.values[:, 9].tolist()) & set(data.validation.values[:, 9].tolist())
    assert prepare(folder, image_validation="seeded", seed=1).hash != prepare(folder, image_validation="seeded").hash
    with pytest.raises(DataError, match=r"data\.train_rows must be 0 \(all\) to 36"):
        prepare(folder, train_rows=37)


def test_released_order(monkeypatch):
    """Released blocks in another order are put back in order; other images are left alone (None)."""
    pixels = np.arange(6, dtype=np.uint8).repeat(4).reshape(6, 4)
    monkeypatch.setattr(MODULE, "BATCH", 2)
    hashes = [MODULE.hashlib.sha256(pixels[first : first + 2].data).hexdigest()[:16] for first in (0, 2, 4)]
    monkeypatch.setattr(MODULE, "BATCHES", (hashes[2], hashes[0], hashes[1]))
    order = MODULE.original_order(pixels)
    assert order is not None
    assert order.tolist() == [4, 5, 0, 1, 2, 3]
    assert MODULE.original_order(pixels[::-1].copy()) is None


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        (b"", "row 25: the picture is empty"),
        (None, "row 25: the picture is empty"),
        (b"no picture", "row 25: the picture cannot be read"),
        (png(np.zeros((32, 32, 3), np.uint8))[:60], "row 25: the picture cannot be read"),
        (png(np.zeros((32, 31, 3), np.uint8)), "row 25: the picture is RGB 31 x 32, not RGB 32 x 32"),
        (png(np.zeros((32, 32), np.uint8)), "row 25: the picture is L 32 x 32"),
    ],
    ids=["empty", "none", "text", "cut", "size", "grey"],
)
def test_broken_pictures(tmp_path, colours, picture, message):
    pictures = [png(colour) for colour in colours]
    pictures[25] = picture
    write_images(tmp_path / "data", pictures, [0] * ROWS)
    with pytest.raises(DataError, match=message) as caught:
        prepare(tmp_path / "data")
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "cache").glob("image-*"))


def test_broken_files(tmp_path, colours):
    pictures = [png(colour) for colour in colours]
    place = write_images(tmp_path / "data", pictures, [10] * ROWS)
    with pytest.raises(DataError, match="row 0: the label is 10, not one of 0 to 9"):
        prepare(tmp_path / "data")
    (place / "train-00000-of-00001.parquet").unlink()
    with pytest.raises(DataError, match=r"lacks train-\*\.parquet"):
        prepare(tmp_path / "data")
    write_images(tmp_path / "few", pictures[:9], [0] * 9)
    with pytest.raises(DataError, match="too few"):
        prepare(tmp_path / "few")


def test_the_ladder_sees_what_single_pixels_show(tmp_path):
    """The class is the brightness, which single pixels show."""
    pytest.importorskip("sklearn")
    drawn = np.random.default_rng(0)
    labels = [row % 10 for row in range(400)]
    pictures = [png(drawn.integers(20 * c, 20 * c + 60, (32, 32, 3), dtype=np.uint8)) for c in labels]
    write_images(tmp_path / "data", pictures, labels)
    data = prepare(tmp_path / "data")
    assert TASK.ladder(data) == {"constant": 0.1}
    rungs = TASK.climb(data)
    assert list(rungs) == ["constant", "linear on pixels", "random patches"]
    assert rungs["linear on pixels"] > 0.7
    tasks.store_ladder(data.folder, data, rungs)
    assert TASK.ladder(data) == rungs


@pytest.mark.skipif(not (Path(REAL) / "cifar10").is_dir() or not REAL, reason="LRA_DATA holds no cifar10")
def test_real_images(tmp_path):
    data = TASK.prepare(TASK.settings(), Path(REAL), tmp_path, False)
    assert data.about["rows"] == {"train": 45_000, "validation": 5000, "test": 10_000}
    assert data.train.labels[:6].tolist() == [6, 9, 9, 4, 1, 1]  # frog, truck, truck, deer, automobile, automobile
    assert data.test.labels[:6].tolist() == [3, 8, 8, 0, 6, 6]
    splits = (data.train, data.validation, data.test)
    ends = [hashlib.sha256(row).hexdigest()[:12] for split in splits for row in (split.values[0], split.values[-1])]
    assert ends == [
        "7c269414de20", "a0607d9168bc", "907b9d630584", "89de9aa6fe1a", "ca4fd3a62338", "31e13119c6bf",
    ]  # fmt: skip
    assert "images in the released order" in data.about["split_rule"]
    assert data.about["label"] == "official"
    assert data.hash == "5d0e714973a2"
    shipped = Path(__file__).parent.parent / "results" / "ladders" / f"image-{data.hash}.json"
    rungs = json.loads(shipped.read_text())["rungs"]
    assert TASK.climb(data) == pytest.approx(rungs, abs=0.01)  # sums differ by machine
    assert TASK.ladder(data) == rungs
