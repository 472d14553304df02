"""Figures that `inspect` left beside a report, taken into the page: each folder's figures.json names them."""

import base64
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

SHRINK = 0.6  # pictures have 150 dots per inch; this gives their text the size of the text in other figures
MOST_BYTES = 1_200_000  # of pictures in one page, so that it can still be mailed


@dataclass(frozen=True)
class Picture:
    """A picture as a data URI, and what to say in its place."""

    title: str
    alt: str
    source: str
    width: int  # on the page, in its pixels


@dataclass(frozen=True)
class Look:
    """One folder: what was looked at, what must be said about it, and its pictures."""

    title: str
    notes: tuple[str, ...]
    pictures: tuple[Picture, ...]
    left_out: tuple[str, ...]


def find(out: Path) -> tuple[list[Look], list[str]]:
    """What lies in `out`/inspect and beside `out` in inspect/, and a line for each folder that cannot be read."""
    folders = dict.fromkeys(file.parent for root in (out, out.parent) for file in root.glob("inspect/*/figures.json"))
    looks, problems, room = [], [], MOST_BYTES
    for folder in sorted(folders):
        try:
            look = _read(folder, room)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            problems.append(f"{folder} holds no readable figures: {error}")
            continue
        room -= sum(len(picture.source) for picture in look.pictures)
        looks.append(look)
    return looks, problems


def _read(folder: Path, room: int) -> Look:
    index: dict[str, Any] = json.loads((folder / "figures.json").read_text(encoding="utf-8"))
    pictures: list[Picture] = []
    left_out: list[str] = []
    for figure in index["figures"]:
        source, width = _embed(folder / Path(figure["file"]).name)
        if len(source) > room:
            left_out.append(f"{folder.name}/{Path(figure['file']).name}")
            continue
        room -= len(source)
        pictures.append(Picture(str(figure["title"]), str(figure["alt"]), source, width))
    return Look(str(index["title"]), _lines(index.get("notes", ())), tuple(pictures), tuple(left_out))


def _lines(notes: Sequence[Any]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(str(note) for note in notes))


def _embed(file: Path) -> tuple[str, int]:
    """A PNG with at most 256 colours, which takes a third of the bytes, as a data URI, and its width on the page."""
    content = io.BytesIO()
    with Image.open(file) as image:
        image.convert("RGB").quantize(256).save(content, "png", optimize=True)
        width = round(image.width * SHRINK)
    return f"data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}", width
