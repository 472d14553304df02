"""docs/zoo.md, made from the mechanisms' own files and the published tables; `list --page` writes it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from attention_zoo import Entry
    from lra.report.tables.published import PublishedFigure, PublishedTask

HEAD = """\
# The zoo

Every mechanism that is built in, by family. `run_lra.py list --page docs/zoo.md` makes this page from the mechanisms'
own files and from [results/published](../results/published/README.md): edit those. `--attn family:linear` runs all of a
family.

N tokens, D width of the model, K width of a head; the file of a mechanism explains its other letters. Costs are those
of mixing, as N grows. Positions that are added to the input may still tell a mechanism what it cannot see by itself.
Published figures are test accuracies in percent. Only where their protocol is one of ours (`list` shows these) can they
be set beside ours; `own` is its authors' own set-up; `unpublished`: the settings were never released.
"""
OFFICIAL = "official"  # what records and tables call a mechanism that works as its authors' does
DASH = "\N{EN DASH}"


def page() -> str:
    """The whole page, in Markdown."""
    import attention_zoo
    from lra.report.tables import published

    figures = [figure for figure in published.accuracies(published.read()) if not published.is_copied(figure)]
    parts = [HEAD, overview()]
    for family, about in attention_zoo.FAMILIES.items():
        if names := attention_zoo.names(family):
            parts.append(f"## {title(family)}\n\n{about[:1].upper()}{about[1:]}.\n")
            parts += [section(attention_zoo.find(name)[0], figures) for name in names]
    return "\n".join(parts)


def title(family: str) -> str:
    """'low_rank' -> 'Low rank'."""
    return family.replace("_", " ").capitalize()


def overview() -> str:
    """A table of the families and their mechanisms, with links."""
    import attention_zoo

    lines = ["| family | mechanisms |", "|---|---|"]
    for family in attention_zoo.FAMILIES:
        if links := ", ".join(f"[{name}](#{name})" for name in attention_zoo.names(family)):
            lines.append(f"| {title(family)} | {links} |")
    return "\n".join(lines) + "\n"


def section(entry: Entry, figures: Sequence[PublishedFigure]) -> str:
    """A heading, a paragraph, and a table of the published figures of a mechanism."""
    idea, source, formula = described(entry)
    sentences = [f"**{entry.title}.**", idea, formula, *facts(entry), source, *fidelity(entry)]
    link = f"[attention_zoo/{entry.name}.py](../attention_zoo/{entry.name}.py)"
    options = ", ".join(f"`{key}={lowered(default)}`" for key, (_, default) in entry.options.items())
    sentences.append(f"Options: {options}; {link}." if options else f"{link}.")
    table = published_table(entry.name, figures)
    return f"### {entry.name}\n\n{' '.join(filter(None, sentences))}\n" + (f"\n{table}\n" if table else "")


def described(entry: Entry) -> tuple[str, str, str]:
    """From the docstrings of a mechanism's file: the idea, its source and what was changed, and the formula."""
    tree = ast.parse(entry.source)
    idea, *more = (ast.get_docstring(tree) or "").split("\n\n", 1)
    source = re.split(r"\bLetters: ", more[0])[0] if more else ""
    classes = (node for node in tree.body if isinstance(node, ast.ClassDef) and node.decorator_list)
    formula = next((ast.get_docstring(node) or "" for node in classes), "").split("\n\n")[0]
    return plain(idea), plain(source), plain(formula)


def plain(text: str) -> str:
    """A docstring as one line of Markdown, with the special characters outside backticks escaped."""
    spans = " ".join(text.split()).split("`")
    spans[::2] = [re.sub(r"([*_<|\[\]\\])", r"\\\1", span) for span in spans[::2]]
    return "`".join(spans)


def facts(entry: Entry) -> Iterable[str]:
    """Sentences on a mechanism's cost, what a query reads and cannot see, its padding, and the checks that it fails."""
    cost = f"It costs {entry.cost}" if entry.cost else ""
    reads = f"a query reads {plain(entry.state)}" if entry.state else ""
    both = "; ".join(filter(None, (cost, reads)))
    yield f"{both[:1].upper()}{both[1:]}." if both else ""
    yield f"It cannot see {plain(entry.blind)}." if entry.blind else ""
    yield "Its input is always padded to the longest sequence." if entry.padding == "fixed" else ""
    for check, reason in entry.expected_failures.items():
        yield f"It fails the check `{check}`: {plain(reason)}."


def fidelity(entry: Entry) -> Iterable[str]:
    """Sentences on how a mechanism differs from its paper on sequences, on grids, and with options."""
    if entry.control:
        return
    sequence, grid = (plain(entry.adaptation(on_grid, {})) or OFFICIAL for on_grid in (False, True))
    yield f"Tables call it {words(sequence)}" + ("." if grid == sequence else f"; on a grid {words(grid)}.")
    departures = [f"{condition(entry, key)}: {plain(text)}" for key, text in entry.departs.items()]
    departures = [text for text, key in zip(departures, entry.departs, strict=True) if not entry.holds(key, {})]
    if departures:
        yield f"With options it departs further: {'; '.join(departures)}."


def words(adaptation: str) -> str:
    return adaptation if adaptation == OFFICIAL else f"adapted ({adaptation})"


def condition(entry: Entry, text: str) -> str:
    """`conv` -> '`conv` other than 0', `conv=0` as it is, `conv!=0` -> '`conv` other than 0'."""
    option, unequal, value = text.partition("!=")
    if unequal:
        return f"`{option}` other than {value}"
    return f"`{text}`" if "=" in text else f"`{text}` other than {lowered(entry.default(text))}"


def lowered(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def published_table(name: str, figures: Sequence[PublishedFigure]) -> str:
    """A Markdown table with a line for each published row that has figures of this mechanism; '' without any.

    A published row can have figures of several mechanisms; its average is then left out.
    """
    from lra.report.tables import published

    known = published.tasks()
    rows: dict[tuple[str, str, str], list[PublishedFigure]] = {}
    for figure in figures:
        key = (figure["citation"].partition(" (")[0], figure["mechanism"], figure["protocol"])
        rows.setdefault(key, []).append(figure)
    lines, shown = [], set()
    for (source, mechanism, protocol), row in rows.items():
        matches = [figure for figure in row if figure["attention"].partition(":")[0] == name]
        matches = [figure for figure in matches if len(matches) == len(row) or known[figure["task"]].train]
        if matches:
            specs = {figure["task"]: figure["attention"] for figure in matches if known[figure["task"]].train}
            words = plain(mechanism) + options_by_task(name, specs, known)
            values = {figure["task"]: figure["value"] for figure in matches}
            lines.append(([plain(source), words, plain(protocol)], values))
            shown |= values.keys()
    if not lines:
        return ""
    tasks = {task: about.title for task, about in known.items() if task in shown}
    head = ["| published in | as | protocol | " + " | ".join(tasks.values()) + " |", "|---" * (3 + len(tasks)) + "|"]
    body = ["| " + " | ".join([*words, *(values.get(task, DASH) for task in tasks)]) + " |" for words, values in lines]
    return "\n".join([*head, *body])


def options_by_task(name: str, specs: Mapping[str, str], known: Mapping[str, PublishedTask]) -> str:
    """' (`local:block=64` on Image, Pathfinder)', or '' where `name` without options is meant on every task.

    specs: task -> the spec that was published there.
    """
    parts = []
    for spec in dict.fromkeys(specs.values()):
        tasks = [task for task in specs if specs[task] == spec]
        where = "" if len(tasks) == len(specs) else f" on {', '.join(known[task].title for task in tasks)}"
        parts += [f"`{spec}`{where}"] if spec != name else []
    return f" ({', '.join(parts)})" if parts else ""
