"""Figures that `inspect` wrote beside a report, embedded in the page: the figures.json of each folder names them."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from lra.results.reading import content_of, parse

SHRINK = 0.6  # of pictures with 150 dots per inch: gives their text the size of the text in other figures
# Pillow raises the last two for PNG files that are damaged or claim to be huge.
UNREADABLE = (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, SyntaxError,
              Image.DecompressionBombError)  # fmt: skip
MOST_BYTES = 1_200_000  # of pictures in one page, so that it can still be mailed


@dataclass(frozen=True)
class EmbeddedPicture:
    """A picture as a data URI, and what a screen reader says instead."""

    title: str
    alt: str
    source: str
    width: int  # on the page, in CSS pixels


@dataclass(frozen=True)
class InspectedFolder:
    """One folder of `inspect`: its title, notes and pictures. left_out: pictures for which the page has no room."""

    title: str
    notes: tuple[str, ...]
    pictures: tuple[EmbeddedPicture, ...]
    left_out: tuple[str, ...]


def find(out: Path) -> tuple[list[InspectedFolder], list[str]]:
    """The folders in `out`/inspect and in inspect/ beside `out`, and a line for each one that cannot be read."""
    folders = dict.fromkeys(file.parent for root in (out, out.parent) for file in root.glob("inspect/*/figures.json"))
    readable, problems, room = [], [], MOST_BYTES
    for folder in sorted(folders):
        try:
            inspected = _read(folder, room)
        except UNREADABLE as error:
            problems.append(f"{folder} holds no readable figures: {' '.join(str(error).split())[:300]}")
            continue
        room -= sum(len(picture.source) for picture in inspected.pictures)
        readable.append(inspected)
    return readable, problems


def _read(folder: Path, room: int) -> InspectedFolder:
    index: dict[str, Any] = parse(content_of(folder / "figures.json"))
    pictures: list[EmbeddedPicture] = []
    left_out: list[str] = []
    for figure in index["figures"]:
        source, width = _embed(folder / Path(figure["file"]).name)
        if len(source) > room:
            left_out.append(f"{folder.name}/{Path(figure['file']).name}")
            continue
        room -= len(source)
        pictures.append(EmbeddedPicture(str(figure["title"]), str(figure["alt"]), source, width))
    return InspectedFolder(str(index["title"]), _lines(index.get("notes", ())), tuple(pictures), tuple(left_out))


def _lines(notes: Sequence[Any]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(str(note) for note in notes))


def _embed(file: Path) -> tuple[str, int]:
    """A PNG with at most 256 colours, which takes a third of the bytes, as a data URI, and its width on the page."""
    content = io.BytesIO()
    with Image.open(file) as image:
        image.convert("RGB").quantize(256).save(content, "png", optimize=True)
        width = round(image.width * SHRINK)
    return f"data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}", width
