"""The released Pathfinder folders, whole and broken, and the splits that are made from them."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

import tasks
from tasks import DataError

TASK = tasks.find("pathfinder")
SETTINGS = TASK.settings(train_rows=3, validation_rows=2, test_rows=2)
REST = "1.0 14 4 2 0.5 1 1"


def write(place, batches=(7, 16), size=32):
    """Batches 2 and 10, so that numbers and names sort differently -> images (R, size ** 2), labels."""
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (sum(batches), size, size), np.uint8)
    labels = random.integers(0, 2, sum(batches))
    row = 0
    for batch, rows in zip((2, 10), batches, strict=True):
        (place / f"imgs/{batch}").mkdir(parents=True)
        (place / "metadata").mkdir(exist_ok=True)
        lines = []
        for number in range(rows):
            Image.fromarray(images[row]).save(place / f"imgs/{batch}/sample_{number}.png")
            lines.append(f"imgs/{batch} sample_{number}.png {number} {labels[row]} {REST}\n")
            row += 1
        (place / f"metadata/{batch}.npy").write_text("".join(lines))
    return images.reshape(len(images), -1), labels


@pytest.mark.parametrize("root", ["", "lra_release", "lra_release/lra_release"])
def test_released_folder(tmp_path, root, monkeypatch):
    monkeypatch.setattr("tasks.pathfinder.task.RELEASED", 23)
    images, labels = write(tmp_path / root / "pathfinder32/curv_contour_length_14")
    data = TASK.prepare(SETTINGS, tmp_path, tmp_path / "cache", False)
    assert data.about["rows"] == {"train": 19, "validation": 2, "test": 2}
    assert (data.about["label"], data.about["seed"], data.about["skipped"]) == ("official", None, [])
    splits = (data.train, data.validation, data.test)
    assert (np.concatenate([split.values for split in splits]) == images).all()
    assert (np.concatenate([split.labels for split in splits]) == labels).all()
    again = TASK.prepare(SETTINGS, tmp_path, tmp_path / "cache", False)
    assert (again.hash, again.spec) == (data.hash, data.spec)


def test_s4_split(tmp_path):
    """S4: torch.utils.data.random_split of the sorted list, seed 42."""
    images, _ = write(tmp_path / "pathfinder32/curv_contour_length_14")
    data = TASK.prepare(replace(SETTINGS, split_rule="s4"), tmp_path, tmp_path / "cache", False)
    torch_generator = torch.Generator().manual_seed(42)
    parts = torch.utils.data.random_split(range(23), (19, 2, 2), generator=torch_generator)  # pyright: ignore
    for split, part in zip((data.train, data.validation, data.test), parts, strict=True):
        assert (split.values == images[list(part.indices)]).all()
    assert data.about["split_rule"] == "s4"


@pytest.mark.parametrize("items", [1, 2, 1000, 200_000])
def test_torch_permutation(items):
    from tasks.pathfinder.files import torch_permutation

    expected = torch.randperm(items, generator=torch.Generator().manual_seed(42)).tolist()
    assert torch_permutation(items, 42) == expected


def test_the_empty_file_is_named_and_skipped(tmp_path):
    place = tmp_path / "pathfinder32/curv_baseline"
    write(place)
    for path in place.glob("metadata/2.npy"):
        path.write_text(path.read_text() + f"imgs/0 sample_172.png 172 1 {REST}\n")
    (place / "imgs/0").mkdir()
    (place / "imgs/0/sample_172.png").write_bytes(b"")
    data = TASK.prepare(replace(SETTINGS, difficulty="easy"), tmp_path, tmp_path / "cache", False)
    assert sum(data.about["rows"].values()) == 23
    assert data.about["skipped"] == ["pathfinder32/curv_baseline/imgs/0/sample_172.png: empty in the release"]


BROKEN = {
    "image removed": ("imgs/10/sample_3.png", None, "No such file"),
    "image empty": ("imgs/10/sample_3.png", b"", "is empty"),
    "image cut": ("imgs/10/sample_3.png", 300, "no whole PNG"),
    "no image": ("imgs/10/sample_3.png", b"GIF89a", "no whole PNG"),
    "metadata empty": ("metadata/10.npy", b"", "is empty"),
    "metadata binary": ("metadata/10.npy", b"\x93NUMPY\x01\x00", "is not the text that was released"),
    "label": ("metadata/10.npy", b"imgs/10 sample_0.png 0 2 1.0\n", r"line 1 is not 'imgs/<batch> sample"),
    "short": ("metadata/10.npy", b"imgs/10 sample_0.png 0 1\nimgs/10 sam", r"line 2 is not 'imgs/<batch> sample"),
    "outside": ("metadata/10.npy", b"imgs/../.. sample_0.png 0 1\n", "line 1 names no image under imgs"),
    "no number": ("metadata/ten.npy", b"", "is not named by the number of a batch"),
}


@pytest.mark.parametrize(("name", "content", "message"), BROKEN.values(), ids=BROKEN)
def test_broken_folder(tmp_path, name, content, message):
    place = tmp_path / "pathfinder32/curv_contour_length_14"
    write(place)
    path = place / name
    if content is None:
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:content] if isinstance(content, int) else content)
    with pytest.raises(DataError, match=re.escape(str(path)) + r".*" + message) as caught:
        TASK.prepare(SETTINGS, tmp_path, tmp_path / "cache", False)
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "cache").glob("*/manifest.json"))


def test_a_folder_of_other_images_is_the_user_s(tmp_path):
    """This also holds if the metadata begin with a byte order mark and the pictures have palettes."""
    place = tmp_path / "pathfinder32/curv_contour_length_14"
    images, _ = write(place)
    for path in place.glob("metadata/*.npy"):
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    for path in place.rglob("*.png"):
        with_palette(np.asarray(Image.open(path))).save(path)
    data = TASK.prepare(SETTINGS, tmp_path, tmp_path / "cache", False)
    assert data.about["label"] == "user's files"
    assert (np.concatenate([split.values for split in (data.train, data.validation, data.test)]) == images).all()


def with_palette(grey):
    """The same picture with a palette that holds the grey levels in another order."""
    order = np.random.default_rng(1).permutation(256).astype(np.uint8)
    picture = Image.fromarray(np.argsort(order).astype(np.uint8)[grey])
    picture.putpalette(np.repeat(order, 3).tobytes())
    return picture


@pytest.mark.parametrize("image", [np.zeros((32, 31), np.uint8), np.zeros((32, 32, 3), np.uint8)])
def test_image_of_another_form(tmp_path, image):
    place = tmp_path / "pathfinder32/curv_contour_length_14"
    write(place)
    Image.fromarray(image).save(path := place / "imgs/2/sample_0.png")
    with pytest.raises(DataError, match=re.escape(str(path)) + r" is 32 x .* not 32 x 32 of 8-bit grey"):
        TASK.prepare(SETTINGS, tmp_path, tmp_path / "cache", False)


def test_missing_folders(tmp_path, cache):
    assert TASK.prepare(SETTINGS, tmp_path, cache, False).about["label"] == "generated"
    with pytest.raises(DataError, match="nowhere is no folder"):
        TASK.prepare(SETTINGS, tmp_path / "nowhere", cache, False)
    place = tmp_path / "pathfinder32/curv_contour_length_9"
    place.mkdir(parents=True)
    with pytest.raises(DataError, match="curv_contour_length_14 lacks metadata or imgs"):
        TASK.prepare(SETTINGS, tmp_path, cache, False)
    (place / "imgs").mkdir()
    (place / "metadata").mkdir()
    with pytest.raises(DataError, match=r"metadata holds no \.npy files"):
        TASK.prepare(replace(SETTINGS, difficulty="intermediate"), tmp_path, cache, False)
    (place / "metadata/1.npy").write_text(f"imgs/1 sample_0.png 0 1 {REST}\n")
    with pytest.raises(DataError, match="names 1 images, fewer than the 10"):
        TASK.prepare(replace(SETTINGS, difficulty="intermediate"), tmp_path, cache, False)
