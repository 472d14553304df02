"""Draws Pathfinder's committed constants again: `python -m tasks.pathfinder.stamps` rewrites tables.json.

A paddle is a line drawn by Pillow at twice the resolution, reduced with Lanczos; its mask is the line dilated by twice
the margin, reduced in the same way; angles follow https://github.com/drewlinsley/pathfinder at ab9c130, whose SciPy
stretched to 0 ... 255 before it reduced. Generating images does not need this module, and other versions of Pillow may
draw other lines.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from tasks.pathfinder.tables import COSINE_STEP, DEGREE, FILE, PARAMETERS, Parameters, dilate, pack

Arrays = dict[str, np.ndarray]


def build() -> dict[str, Arrays]:
    """All committed constants: section -> name -> array."""
    cosines = np.cos(np.radians(np.arange(0, 90 * DEGREE + 1, COSINE_STEP) / DEGREE)) ** 2
    found: dict[str, Arrays] = {"all": {"squared_cosines": np.rint(cosines * 65_536).astype("<i4")}}
    for size, form in PARAMETERS.items():
        found[f"{size}"] = {"marker": _marker(form), "heads": _up(form.paddle, _WHOLE), "away": _away(form)}
        for margin in form.margins:
            found[f"{size}-{margin}"] = _of_margin(form, margin)
    return found


_WHOLE = np.radians(np.arange(-180, 180))


def _of_margin(form: Parameters, margin: int) -> Arrays:
    candidates = _candidates(form.paddle + margin)
    angles = np.arctan2(*candidates.T.astype(float))
    lines, masks, stamps = _stamps(form, margin, np.concatenate([_WHOLE, angles + np.pi]))
    return {
        "candidates": candidates,
        "angles": np.rint(np.degrees(angles) * DEGREE).astype("<i4"),
        "pivots": _up(form.paddle + margin, _WHOLE + np.pi),
        "steps": _up(form.paddle + 2 * margin, np.concatenate([_WHOLE, angles])),
        "lines": lines,
        "masks": masks,
        "stamps": stamps,
    }


def _moves(distance: float, angles: np.ndarray) -> np.ndarray:
    """Rows and columns (A, 2) of a move, free of rounding noise at whole numbers."""
    return np.round(distance * np.stack([np.sin(angles), np.cos(angles)], 1), 9)


def _up(distance: float, angles: np.ndarray) -> np.ndarray:
    return np.ceil(_moves(distance, angles)).astype("<i1")


def _away(form: Parameters) -> np.ndarray:
    """Twice the move between tails; odd where it ends halfway, which is rounded to even once the tail is known."""
    moves = _moves(form.seed_distance, np.radians(np.arange(360)))
    return np.where(moves % 1 == 0.5, 2 * moves, 2 * np.rint(moves)).astype("<i1")


def _candidates(radius: int) -> np.ndarray:
    """The distinct cells (C, 2) of a circle around a pivot, sampled once per pixel of its length."""
    return np.unique(np.floor(_moves(radius, np.arange(0, 2 * np.pi, 1 / radius))).astype("<i1"), axis=0)


def _stamps(form: Parameters, margin: int, angles: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distinct lines and masks (S, side, side), and the index of the one that each angle draws."""
    ends, stamps = np.unique(_up(2 * form.paddle, angles), axis=0, return_inverse=True)
    pairs = [_paddle(form, margin, int(y), int(x)) for y, x in ends]
    lines, masks = (np.stack(part) for part in zip(*pairs, strict=True))
    return lines, masks, stamps.reshape(-1).astype("u1")


def _paddle(form: Parameters, margin: int, y: int, x: int) -> tuple[np.ndarray, np.ndarray]:
    centre = 2 * (form.reach + margin)
    canvas = Image.new("L", (2 * centre + 1, 2 * centre + 1))
    line = [(centre, centre), (centre + x, centre + y)]
    ImageDraw.Draw(canvas).line(line, fill=255, width=round(2 * form.thickness))
    drawn = np.asarray(canvas)
    cut = slice(2 * margin, -2 * margin)
    return _reduce(drawn, centre + 1), _reduce(dilate(drawn[None], 2 * margin)[0, cut, cut], centre + 1)


def _marker(form: Parameters) -> np.ndarray:
    """A centred disc with Lanczos's ripples; at the border of an image, the original's differ by a few grey levels."""
    reach = int(np.ceil(form.radius)) + 4
    y, x = np.ogrid[-2 * reach - 16 : 2 * reach + 16, -2 * reach - 16 : 2 * reach + 16]
    disc = np.where(x**2 + y**2 <= (2 * form.radius) ** 2, np.uint8(255), np.uint8(0))
    return _reduce(disc, 2 * reach + 16)[8 : 2 * reach + 9, 8 : 2 * reach + 9]


def _reduce(image: np.ndarray, side: int) -> np.ndarray:
    return np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.LANCZOS))


def write() -> None:
    """Rewrites the committed file."""
    packed: dict[str, Any] = {
        section: {name: pack(array) for name, array in arrays.items()} for section, arrays in build().items()
    }
    FILE.write_text(json.dumps(packed, indent=0) + "\n", encoding="utf-8")


if __name__ == "__main__":
    write()
