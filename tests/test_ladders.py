"""Each rung of a ladder reads what its name says and nothing else, shown on data that only this rung solves."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tasks

LETTERS = np.frombuffer(b"abcdefgh", np.uint8)
Splits = tuple[tasks.Split, tasks.Split, tasks.Split]


def data_of(splits: Splits, length: int, grid: tuple[int, int] | None = None, pair: bool = False) -> tasks.Data:
    spec = tasks.Spec(vocab=256, classes=2, length=length, grid=grid, pair=pair, padded=pair)
    return tasks.Data(spec, *splits, "0" * 12, {"task": "made up"}, Path("none") / "made-up")


def solved(rungs: dict[str, float]) -> set[str]:
    """The rungs above 95 %; all others must be near chance, on 100 to 200 rows of two classes."""
    assert all(accuracy < 0.6 or accuracy > 0.95 for accuracy in rungs.values()), rungs
    return {name for name, accuracy in rungs.items() if accuracy > 0.95}


def halves(rows: int) -> np.ndarray:
    """Labels (rows,): 0 and 1 in turn."""
    return np.arange(rows) % 2


def images(draw: Any) -> tasks.Data:
    """draw: random generator and label -> an image (32, 32)."""
    random = np.random.default_rng(0)

    def split(rows: int) -> tasks.Split:
        labels = halves(rows)
        values = np.stack([draw(random, label).ravel() for label in labels]).astype(np.uint8)
        return tasks.Split(values, np.full(rows, 1024, np.int32), labels)

    return data_of((split(400), split(2), split(200)), 1024, (32, 32))


def brightness(random: np.random.Generator, label: int) -> np.ndarray:
    """Noise on a brighter ground for label 1: a patch is compared without its mean."""
    return random.integers(0, 40, (32, 32)) + 100 + 20 * label


def stripes(random: np.random.Generator, label: int) -> np.ndarray:
    """Stripes across or down at a random offset, so that no single pixel shows the label."""
    wave = 100 * ((np.arange(32) + random.integers(4)) % 4 < 2)
    return random.integers(0, 40, (32, 32)) + (wave[:, None] if label else wave[None])


@pytest.mark.parametrize(("draw", "rung"), [(brightness, "linear on pixels"), (stripes, "random patches")])
def test_image(draw, rung):
    pytest.importorskip("sklearn")
    assert solved(tasks.find("image").climb(images(draw))) == {rung}


def documents(texts: list[bytes], pairs: Any, labels: np.ndarray) -> Splits:
    """Splits of pairs of the same documents; pairs, labels: those of train, validation and test in this order."""
    values = np.zeros((len(texts), max(map(len, texts))), np.uint8)
    for row, text in zip(values, texts, strict=True):
        row[: len(text)] = np.frombuffer(text, np.uint8)
    lengths, pairs = np.array([len(text) for text in texts], np.int32), np.array(pairs, np.int32)
    ends = [slice(0, len(pairs) // 2), slice(len(pairs) // 2, 3 * len(pairs) // 4), slice(3 * len(pairs) // 4, None)]
    first, second, third = (tasks.Split(values, lengths, labels[part], pairs=pairs[part]) for part in ends)
    return first, second, third


def anagram(random: np.random.Generator) -> bytes:
    """A word, all of which have the same letters."""
    return random.permutation(LETTERS).tobytes()


def popular() -> Splits:
    """The second document is one of ten cited ones, or of ten others; all documents have the same letters."""
    random, labels = np.random.default_rng(0), halves(400)
    pairs = np.stack([random.integers(20, 40, 400), random.integers(0, 10, 400) + 10 * (1 - labels)], 1)
    return documents([anagram(random) for _ in range(40)], pairs, labels)


def bytewise() -> Splits:
    """Both documents have many 1s or many 2s, or one has each; they have no words, and are in one pair only."""
    random, labels = np.random.default_rng(0), halves(800)
    first = random.integers(0, 2, 800)
    kinds = np.stack([first, np.where(labels, first, 1 - first)], 1).ravel()
    texts = [random.permutation([*b"1122"] + 8 * [b"12"[kind]]).astype(np.uint8).tobytes() for kind in kinds]
    return documents(texts, np.arange(1600).reshape(-1, 2), labels)


def wordwise() -> Splits:
    """A pair shares one rare word, or two of eight common words; all words have the same letters."""
    random, labels = np.random.default_rng(0), halves(800)
    common, texts = [anagram(random) for _ in range(8)], []
    for label in labels:
        order = random.permutation(8)
        shared = [anagram(random)] if label else [common[word] for word in order[:2]]
        for half in (order[2:5], order[5:8]):
            own = [common[word] for word in half] + [anagram(random) for _ in range(2 + label)]
            texts.append(b" ".join(shared + own))
    return documents(texts, np.arange(1600).reshape(-1, 2), labels)


PAIRS = {"popularity of document 2": popular, "byte histograms": bytewise, "idf cosine": wordwise}


@pytest.mark.parametrize("rung", PAIRS)
def test_retrieval(rung):
    splits = PAIRS[rung]()
    assert solved(tasks.find("retrieval").climb(data_of(splits, splits[0].values.shape[1], pair=True))) == {rung}


def mark(image: np.ndarray, y: int, x: int) -> None:
    """Makes the cells of a marker white."""
    image[[y - 1, y, y], [x, x - 1, x]] = 255


def far_apart(random: np.random.Generator, label: int) -> np.ndarray:
    """Two markers in a row, 8 or 14 cells apart, and nothing else."""
    image, (y, x) = np.zeros((32, 32)), random.integers(1, (32, 17)).tolist()
    mark(image, y, x)
    mark(image, y, x + 8 + 6 * label)
    return image


def shaded(random: np.random.Generator, label: int) -> np.ndarray:
    """Two markers at a random distance, and single cells below them, darker or brighter by label."""
    image, (y, x, apart) = np.zeros((32, 32)), random.integers((1, 1, 8), (15, 17, 15)).tolist()
    mark(image, y, x)
    mark(image, y, x + apart)
    image[18::3, ::3] = 30 + 60 * label
    return image


def lit(random: np.random.Generator, label: int) -> np.ndarray:
    """Two markers 12 cells apart and a path between them, of which some cells are out of place for label 0."""
    image, (y, x, gap) = np.zeros((32, 32)), random.integers((1, 1, 2), (25, 19, 8)).tolist()
    image[y, x : x + 12] = 100
    if not label:
        image[y, x + gap : x + gap + 3], image[y + 5, x + gap : x + gap + 3] = 0, 100
    mark(image, y, x)
    mark(image, y, x + 12)
    return image


@pytest.mark.parametrize(
    ("draw", "rung"), [(far_apart, "marker distance"), (shaded, "grey histogram"), (lit, "lit path")]
)
def test_pathfinder(draw, rung):
    assert solved(tasks.find("pathfinder").climb(images(draw))) == {rung}


GREYS = {".": 0, "-": 50, "#": 100, "A": 255, "B": 255}
JOINED = {
    "a path": ("A##B/..../..../....", [1, 50, 51, 100]),
    "a path with a darker cell": ("A#-B/..../..../....", [1, 50]),
    "a path with a gap": ("A#.B/..../..../....", []),
    "across corners": ("A.../.#../..#./...B", [1, 50, 51, 100]),
    "a detour": ("A..B/#.#./#.#./.#..", [1, 50, 51, 100]),
    "a detour with a darker cell": ("A..B/-.#./#.#./.#..", [1, 50]),
    "the end of a row and the beginning of the next": ("...A#/#B.../...../...../.....", []),
    "the end of a row and the beginning of its own": ("A...#/#...B/...../...../.....", []),
    "nothing": (".A./.../.B.", []),
}


@pytest.mark.parametrize("what", JOINED)
def test_what_joins_two_markers(what):
    """The picture's lines, and those of four levels at which A and B are joined by cells of at least that grey."""
    from tasks.pathfinder.ladder import are_joined

    picture, levels = JOINED[what]
    cells = picture.replace("/", "")
    side, first, second = picture.count("/") + 1, cells.index("A"), cells.index("B")
    image = np.array([GREYS[cell] for cell in cells], np.uint8).reshape(side, side)
    for start, end in ((first, second), (second, first)):
        stack = np.empty(side * side, np.int64)
        joined = [level for level in (1, 50, 51, 100) if are_joined(image, level, start, end, stack)]
        assert joined == levels


def blank(labels: list[int]) -> tasks.Split:
    """Rows without content, in the form of any task."""
    rows = len(labels)
    roots = {"root operator": (["MIN", "MAX", "MED", "SM"], np.zeros(rows, np.uint8))}
    values, lengths = np.zeros((rows, 1024), np.uint8), np.full(rows, 1024, np.int32)
    return tasks.Split(values, lengths, np.array(labels), roots, pairs=np.zeros((rows, 2), np.int32))


@pytest.mark.parametrize("name", ["listops", "text", "retrieval", "image", "pathfinder"])
def test_the_constant_answer_is_the_commonest_training_label(name, tmp_path):
    """The constant is 1, which is less common in the other splits."""
    spec = tasks.Spec(vocab=256, classes=2, length=1024, grid=(32, 32))
    about = {"task": name, "settings": {"brackets": False}}
    splits = blank([1, 1, 0]), blank([0, 0]), blank([0, 0, 0, 1])
    data = tasks.Data(spec, *splits, "0" * 12, about, tmp_path / "data")
    assert tasks.find(name).ladder(data)["constant"] == 0.25
