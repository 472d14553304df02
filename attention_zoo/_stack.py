"""A hybrid: several mechanisms that take turns over the layers of the encoder, such as `softmax+pola`."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from attention_zoo._entry import Entry
from attention_zoo._options import Value
from attention_zoo._source import HERE

if TYPE_CHECKING:
    from attention_zoo._base import Attention
    from attention_zoo._dims import Dims

Part = tuple[Entry, dict[str, Value]]


@dataclass(frozen=True, kw_only=True)
class Stack(Entry):
    """Layer i is part i modulo the number of parts. The name holds the parts' options; a hybrid has none itself."""

    parts: tuple[Part, ...] = ()

    @property
    def builtin(self) -> bool:
        return all(entry.builtin for entry, _ in self.parts)

    @property
    def specs(self) -> list[str]:
        """A spec for each part."""
        return [entry.address + entry.row(options).removeprefix(entry.name) for entry, options in self.parts]

    @property
    def address(self) -> str:
        return "+".join(self.specs)

    def adaptation(self, grid: bool, options: dict[str, Value]) -> str:  # noqa: ARG002
        return joined("; ", (entry.adaptation(grid, its_options) for entry, its_options in self.parts))

    def build(self, dims: Dims, options: dict[str, Value] | None = None) -> Attention:  # noqa: ARG002
        """The mechanism of layer `dims.layer`. Raises SpecError if it refuses the sizes."""
        entry, its_options = self.parts[dims.layer % len(self.parts)]
        return entry.build(dims, its_options)


def split(spec: str) -> list[str]:
    """'softmax+pola:alpha=1e+1' -> ['softmax', 'pola:alpha=1e+1'], since a plus before a digit belongs to a number.

    A path may contain a plus, so a spec that begins with the path of a file is one part.
    """
    path = re.match(r"^(.*?\.py)(?::|$)", spec)
    if path and Path(path[1]).expanduser().is_file():
        return [spec]
    return re.split(r"\+(?=[^\d])", spec)


def stack(specs: Sequence[str], find: Callable[[str], Part]) -> Stack:
    """Specs of the parts -> the hybrid. Raises SpecError for a part that `find` refuses."""
    parts = tuple(find(spec) for spec in specs)
    entries = [entry for entry, _ in parts]
    everything = [
        (entry.name, entry.source_hash, sorted(entry.all_options(options).items())) for entry, options in parts
    ]
    return Stack(
        name="+".join(entry.row(options) for entry, options in parts),
        path=HERE,
        title=" + ".join(entry.title for entry in entries),
        paper=joined(", ", (entry.paper for entry in entries)),
        cost=joined(" + ", (entry.cost for entry in entries)),
        adapted=joined("; ", (entry.adapted for entry in entries)),
        differs=joined("; ", (entry.differs for entry in entries)),
        padding="fixed" if any(entry.padding == "fixed" for entry in entries) else "masked",
        ordered=True if any(entry.ordered for entry in entries) else None,
        control=all(entry.control for entry in entries),
        source="\n".join(dict.fromkeys(entry.source for entry in entries if not entry.builtin)),
        source_hash=hashlib.sha256(repr(everything).encode()).hexdigest()[:12],
        beside={name: text for entry in entries for name, text in entry.beside.items()},
        data={name: digest for entry in entries for name, digest in entry.data.items()},
        notes=tuple(dict.fromkeys(note for entry in entries for note in entry.notes)),
        parts=parts,
    )


def joined(separator: str, words: Iterable[str]) -> str:
    """Each word once, in their order, without the empty ones."""
    return separator.join(dict.fromkeys(filter(None, words)))
