"""A hybrid of several mechanisms.

`softmax+pola` alternates layer by layer; `pola*3+softmax` has pola in three stages of the backbone, then softmax in
one.
"""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from attention_zoo._entry import Entry
from attention_zoo._options import Value
from attention_zoo._source import HERE, file_at

if TYPE_CHECKING:
    from attention_zoo._base import Attention
    from attention_zoo._dims import Dims

Part = tuple[Entry, dict[str, Value]]


@dataclass(frozen=True, kw_only=True)
class Stack(Entry):
    """Layer i is part i modulo the number of parts. The name holds the parts' options; a hybrid has none itself.

    by_stage: all layers of stage i of the backbone are part i instead, modulo the number of parts; in a flat encoder
    each layer is a stage.
    """

    parts: tuple[Part, ...] = ()
    by_stage: bool = False

    @property
    def builtin(self) -> bool:
        return all(entry.builtin for entry, _ in self.parts)

    @property
    def specs(self) -> list[str]:
        """A spec for each part."""
        return [entry.address + entry.row(options).removeprefix(entry.name) for entry, options in self.parts]

    @property
    def address(self) -> str:
        return _joined_by_stage(self.specs) if self.by_stage else "+".join(self.specs)

    def adaptation(self, grid: bool, options: dict[str, Value]) -> str:  # noqa: ARG002
        return joined("; ", (entry.adaptation(grid, its_options) for entry, its_options in self.parts))

    def part(self, options: dict[str, Value], *, layer: int, stage: int) -> Part:  # noqa: ARG002
        return self.parts[(stage if self.by_stage else layer) % len(self.parts)]

    def build(self, dims: Dims, options: dict[str, Value] | None = None) -> Attention:  # noqa: ARG002
        """The mechanism of layer `dims.layer`, whatever its stage. Raises SpecError if it refuses the sizes."""
        entry, its_options = self.parts[dims.layer % len(self.parts)]
        return entry.build(dims, its_options)


def split(spec: str) -> list[str]:
    """'softmax+pola:alpha=1e+1' -> ['softmax', 'pola:alpha=1e+1'], since a plus before a digit belongs to a number.

    A path may contain a plus, so a spec that begins with the path of a file is one part.
    """
    path = re.match(r"^(.*?\.py)(?::|$)", spec)
    if path and file_at(path[1]):
        return [spec]
    return re.split(r"\+(?=[^\d])", spec)


def repeated(spec: str) -> tuple[str, int]:
    """'pola*3' -> ('pola', 3): pola in three stages; the number is 0 where none is given."""
    found = re.fullmatch(r"(.+)\*(\d{1,3})", spec)
    return (found[1], int(found[2])) if found else (spec, 0)


def _joined_by_stage(names: Iterable[str]) -> str:
    """A name for each stage -> 'pola*3+softmax*1' for three stages of pola and one of softmax."""
    return "+".join(f"{name}*{len(list(group))}" for name, group in itertools.groupby(names))


def stack(specs: Sequence[str], find: Callable[[str], Part]) -> Stack:
    """Specs of the parts -> the hybrid. Raises SpecError for a part that `find` refuses."""
    counts = [repeated(spec) for spec in specs]
    by_stage = any(count for _, count in counts)
    parts = tuple(part for spec, count in counts for part in [find(spec)] * (max(1, count) if by_stage else 1))
    entries = [entry for entry, _ in parts]
    everything = [
        (entry.name, entry.source_hash, sorted(entry.all_options(options).items())) for entry, options in parts
    ]
    what = (everything, "by stage") if by_stage else everything
    titles = [entry.title for entry in entries]
    names = [entry.row(options) for entry, options in parts]
    return Stack(
        name=_joined_by_stage(names) if by_stage else "+".join(names),
        path=HERE,
        title=" + ".join(title for title, _ in itertools.groupby(titles)) if by_stage else " + ".join(titles),
        paper=joined(", ", (entry.paper for entry in entries)),
        cost=joined(" + ", (entry.cost for entry in entries)),
        adapted=joined("; ", (entry.adapted for entry in entries)),
        differs=joined("; ", (entry.differs for entry in entries)),
        padding="fixed" if any(entry.padding == "fixed" for entry in entries) else "masked",
        ordered=True if any(entry.ordered for entry in entries) else None,
        family=entries[0].family if len({entry.family for entry in entries}) == 1 else "",
        source="\n".join(dict.fromkeys(entry.source for entry in entries if not entry.builtin)),
        source_hash=hashlib.sha256(repr(what).encode()).hexdigest()[:12],
        beside={name: text for entry in entries for name, text in entry.beside.items()},
        data={name: digest for entry in entries for name, digest in entry.data.items()},
        notes=tuple(dict.fromkeys(note for entry in entries for note in entry.notes)),
        parts=parts,
        by_stage=by_stage,
    )


def joined(separator: str, words: Iterable[str]) -> str:
    """The words that are not empty, each once, in the order of their first occurrence."""
    return separator.join(dict.fromkeys(filter(None, words)))
