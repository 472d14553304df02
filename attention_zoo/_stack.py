"""A hybrid: several mechanisms that take the encoder's layers in turn, `softmax+pola`."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from attention_zoo._entry import HERE, Entry
from attention_zoo._options import Value

if TYPE_CHECKING:
    from attention_zoo._base import Attention
    from attention_zoo._dims import Dims

Part = tuple[Entry, dict[str, Value]]


@dataclass(frozen=True, kw_only=True)
class Stack(Entry):
    """Layer i is part i modulo their number. Its name holds the parts' options; it has none of its own."""

    parts: tuple[Part, ...] = ()

    @property
    def builtin(self) -> bool:
        return all(entry.builtin for entry, _ in self.parts)

    @property
    def address(self) -> str:
        return "+".join(entry.address + entry.row(options).removeprefix(entry.name) for entry, options in self.parts)

    def build(self, dims: Dims, options: dict[str, Value] | None = None) -> Attention:  # noqa: ARG002
        """The mechanism of layer `dims.layer`. Raises SpecError when it refuses the sizes."""
        entry, mine = self.parts[dims.layer % len(self.parts)]
        return entry.build(dims, mine)


def split(spec: str) -> list[str]:
    """'softmax+pola:alpha=1e+1' -> ['softmax', 'pola:alpha=1e+1']: a plus before a digit belongs to a number.

    A path may hold a plus: what is a file as it stands is one part.
    """
    path = re.match(r"^(.*?\.py)(?::|$)", spec)
    if path and Path(path[1]).expanduser().is_file():
        return [spec]
    return re.split(r"\+(?=[^\d])", spec)


def stack(specs: Sequence[str], find: Callable[[str], Part]) -> Stack:
    """Specs of the parts -> the hybrid. Raises SpecError for a part that `find` refuses."""
    parts = tuple(find(spec) for spec in specs)
    entries = [entry for entry, _ in parts]
    costs = list(dict.fromkeys(entry.cost for entry in entries))
    fixed = any(entry.padding == "fixed" for entry in entries)
    everything = [
        (entry.name, entry.source_hash, sorted(entry.all_options(options).items())) for entry, options in parts
    ]
    return Stack(
        name="+".join(entry.row(options) for entry, options in parts),
        path=HERE,
        title=" + ".join(entry.title for entry in entries),
        paper=", ".join(dict.fromkeys(entry.paper for entry in entries if entry.paper)),
        cost=" + ".join(costs),
        adapted="; ".join(dict.fromkeys(entry.adapted for entry in entries if entry.adapted)),
        padding="fixed" if fixed else "masked",
        source="\n".join(dict.fromkeys(entry.source for entry in entries if not entry.builtin)),
        source_hash=hashlib.sha256(repr(everything).encode()).hexdigest()[:12],
        parts=parts,
    )
