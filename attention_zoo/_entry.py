"""What the registry knows of a mechanism: its names, options and code, and how to build it."""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from attention_zoo import _plugin
from attention_zoo._options import Options, SpecError, Value, read_options
from attention_zoo._process import look, restore
from attention_zoo._reads import is_data, name_of, opened
from attention_zoo._source import HERE

if TYPE_CHECKING:
    from attention_zoo._base import Attention
    from attention_zoo._dims import Dims

FAMILIES = {  # name on the command line -> what its mechanisms have in common
    "softmax": "a weight for every pair of tokens",
    "linear": "features of queries and keys, so that keys and values are summed once for all queries",
    "low_rank": "through a few landmarks, agents, projections or a packed memory",
    "sparse": "attention within windows, blocks or buckets, or from selected queries only",
    "recurrent": "a state that is carried along the sequence",
    "mixing": "no query is compared with a key",
    "control": "no published mechanisms, but baselines to beat",
}
classes: dict[tuple[Path, str], type[Attention]] = {}  # every class registered so far, by file and name


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A registered mechanism, with its source as it was when it was found; an edited file is another mechanism.

    name: on the command line and in tables. title: in texts and figures. paper: its URL. cost: operations as N grows,
    such as "O(N)". adapted: how a form published for images was brought to sequences; empty if it was made for them.
    adapted_where: condition -> the same, for options that fulfil the condition. A condition is `conv` (the option is
    not at its default), `conv=0` (it has this value) or `conv!=0` (it has another); & joins several.
    differs: how it differs from the paper, on any input. padding: "masked", or "fixed" for a mechanism that cannot mask
    and always gets `Dims.length` tokens. ordered: whether the order of tokens matters; None if that depends on the
    options or was not declared. family: one of FAMILIES, for `family:NAME` and for figures; empty if not declared, and
    for a hybrid of several families. state: what a query reads instead of the tokens, with its size, such as "K x K
    sums per head". blind: what the mechanism cannot tell apart, such as "the order of tokens". departs: condition ->
    how the mechanism with such options departs from its authors' form, on any input; sizes that the authors vary, such
    as a number of landmarks, are no departure. expected_failures: check of the contract -> why it must fail. options:
    name -> type and default.
    source: the text of its file. source_hash: of everything the result depends on: the file, what it imports, and the
    data that it reads. beside: a user's other files -> their texts. data: files it reads -> hashes of their content.
    notes: what the user should know before a run, a line each.
    """

    name: str
    path: Path
    title: str
    paper: str = ""
    cost: str = ""
    adapted: str = ""
    adapted_where: dict[str, str] = field(default_factory=dict)
    differs: str = ""
    padding: str = "masked"
    ordered: bool | None = None
    family: str = ""
    state: str = ""
    blind: str = ""
    departs: dict[str, str] = field(default_factory=dict)
    expected_failures: dict[str, str] = field(default_factory=dict)
    options: Options = field(default_factory=dict)
    source: str = field(default="", repr=False)
    source_hash: str = ""
    beside: dict[str, str] = field(default_factory=dict, repr=False)
    data: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def builtin(self) -> bool:
        return self.path.parent == HERE

    @property
    def control(self) -> bool:
        """Is it a baseline that implements no published mechanism?"""
        return self.family == "control"

    @property
    def address(self) -> str:
        """A spec by which `find` finds the mechanism again."""
        return self.name if self.builtin else f"{self.path}:{self.name}"

    def fidelity(self, grid: bool = False, options: dict[str, Value] | None = None) -> str:
        """'official', 'adapted: ' and how, or "user's". grid: whether the tokens form rows and columns."""
        if not self.builtin:
            return "user's"
        return f"adapted: {how}" if (how := self.adaptation(grid, options or {})) else "official"

    def adaptation(self, grid: bool, options: dict[str, Value]) -> str:
        """How the mechanism with these options differs from its paper, in words; empty if it does not."""
        departs = ({"conv": "a local convolution is added"} if self.default("conv") == 0 else {}) | self.departs
        brought = [] if grid else [*self.words_for(self.adapted_where, options), self.adapted]
        words = [*([self.differs] if self.differs else brought), *self.words_for(departs, options)]
        return "; ".join(filter(None, words))

    def words_for(self, conditions: dict[str, str], options: dict[str, Value]) -> list[str]:
        """conditions: condition -> words. The words of the conditions that hold, each once."""
        return list(dict.fromkeys(words for condition, words in conditions.items() if self.holds(condition, options)))

    def holds(self, condition: str, options: dict[str, Value]) -> bool:
        """Do these options fit the condition: `conv` (not at its default), `conv=0` or `conv!=0`? & joins several."""
        if "&" in condition:
            return all(self.holds(part, options) for part in condition.split("&"))
        option, equals, value = condition.replace("!=", "=").partition("=")
        asked = read_options(f"{option}={value}", self.options, self.name)[option] if equals else self.default(option)
        same = self.all_options(options)[option] == asked
        return same == (bool(equals) and "!=" not in condition)

    def default(self, option: str) -> Value | None:
        """The default of an option, or None where there is no such option."""
        return self.options[option][1] if option in self.options else None

    def all_options(self, options: dict[str, Value]) -> dict[str, Value]:
        """These options, and the others at their defaults."""
        return {name: default for name, (_, default) in self.options.items()} | options

    def load(self) -> type[Attention]:
        """The class, after importing its file on first use."""
        if (self.path, self.name) not in classes:
            if self.builtin:
                importlib.import_module(f"attention_zoo.{self.path.stem}")
            else:
                _plugin.load(self.path)
        return classes[self.path, self.name]

    def part(self, options: dict[str, Value], *, layer: int, stage: int) -> tuple[Entry, dict[str, Value]]:  # noqa: ARG002
        """The mechanism of a layer, and its options; a hybrid has several."""
        return self, options

    def build(self, dims: Dims, options: dict[str, Value] | None = None) -> Attention:
        """A module of these sizes.

        Raises SpecError if the mechanism refuses them, or, with `dims.rope`, if it has a `project` of its own.
        """
        from attention_zoo._base import QKVAttention

        try:
            attention = self._make(dims, options or {})
        except ValueError as error:
            raise SpecError(f"attention {self.row(options or {})}: {error}") from error
        except Exception as error:
            if self.builtin:
                raise
            raise SpecError(f"{self.path}: {self.name} cannot be built: {type(error).__name__}: {error}") from error
        if dims.rope and getattr(type(attention), "project", None) is not QKVAttention.project:
            raise SpecError(
                f"attention {self.row(options or {})} cannot take rotary positions (rope), since it has a `project` "
                "of its own; take others, such as model.positions=learned"
            )
        return attention

    def _make(self, dims: Dims, options: dict[str, Value]) -> Attention:
        cls, root = self.load(), self.path.parent
        if self.builtin:
            return cls(dims, **options)
        before = look()
        try:
            with opened() as readings:
                attention = cls(dims, **options)
        finally:
            restore(before)
        files = (file for _, file in readings if root in file.parents and is_data(file, root))
        if unseen := [name for name in (name_of(file, root) for file in files) if name not in self.data]:
            raise SpecError(f"it reads {unseen[0]} in its constructor, where an edit goes unseen: read it at import")
        return attention

    def row(self, options: dict[str, Value]) -> str:
        """The name in tables: the registered name with the options that differ from their defaults."""
        changed = [
            f"{key}={options[key]}"
            for key, (_, default) in self.options.items()
            if options.get(key, default) != default
        ]
        return ":".join([self.name, ",".join(changed)]) if changed else self.name
