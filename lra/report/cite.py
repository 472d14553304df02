"""BibTeX for everything a report builds on: the suite, its tasks and protocols, and every mechanism that ran."""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lra.report import conventions
from lra.report.groups import is_control, rank
from lra.report.latex import escape
from lra.report.tables.published import folder
from lra.results.record import Record


@dataclass(frozen=True)
class Citation:
    """One entry of references.bib. text: as it is printed. keywords: what it is cited for, such as 'task:listops'."""

    key: str
    text: str
    eprint: str
    keywords: tuple[str, ...]


def read(path: Path | None = None) -> list[Citation]:
    """The entries of references.bib, in their order."""
    text = (path or folder() / "references.bib").read_text(encoding="utf-8")
    return [_entry(part.rstrip()) for part in re.split(r"(?m)^(?=@)", text)[1:]]


def cite(records: Sequence[Record], entries: Sequence[Citation]) -> str:
    """BibTeX, each entry under a comment that says what it is cited for; a mechanism without an entry gets a @misc."""
    uses: dict[str, list[str]] = {entry.key: [] for entry in entries}
    extra: dict[str, str] = {}
    for keyword, words in _keywords(records).items():
        for entry in entries:
            if keyword in entry.keywords:
                uses[entry.key].append(words)
    rows = {(record.row, record.attention.get("source_hash")): record for record in records}
    for record in sorted(rows.values(), key=lambda record: rank(record.row, is_control(record))):
        about = record.attention
        parts = about.get("parts") or [about]
        for address in re.findall(r"[^\s,;]+", about.get("paper") or ""):
            known = [entry for entry in entries if entry.eprint in _numbers(address)]
            for entry in known:
                uses[entry.key] += [] if record.row in uses[entry.key] else [record.row]
            if not known:
                whose = next((part for part in parts if address in (part.get("paper") or "")), about)
                extra.setdefault(f"{address} {_source(whose, about)}", _misc(record, whose, address, extra.values()))
        for part in (part for part in parts if not part.get("builtin", True) and not part.get("paper")):
            extra.setdefault(_source(part, about), _misc(record, part, "", extra.values()))
    texts = {entry.key: entry.text for entry in entries}
    wanted = [entry.key for entry in entries if "always" in entry.keywords or uses[entry.key]]
    parts = [(f"% {', '.join(uses[key])}\n" if uses[key] else "") + texts[key] + "\n" for key in wanted]
    return "\n".join([*parts, *extra.values()])


def _keywords(records: Sequence[Record]) -> dict[str, str]:
    """Keyword -> how a comment names it, for these records' tasks, protocols, backbones and pretraining.

    The overrides of a protocol are dropped: they do not change where it comes from.
    """
    titles = {record.task: conventions.task_title(record.task, record.data) for record in records}
    protocols = sorted({record.protocol.partition("[")[0] for record in records})
    keywords = {f"task:{task}": f"task {titles[task]}" for task in sorted(titles)}
    keywords |= {f"protocol:{name}": f"protocol {name}" for name in protocols}
    for record in records:
        if backbone := record.backbone.get("name"):
            keywords[f"backbone:{backbone}"] = f"backbone {backbone}"
        if record.pretraining:
            keywords["pretrain:masked"] = "self-pretraining"
    return keywords


def _entry(text: str) -> Citation:
    fields = dict(re.findall(r"(?m)^  (\w+) = \{(.*)\},$", text))
    shown = re.sub(r"(?m)^  keywords = .*\n", "", text)
    keywords = tuple(word.strip() for word in fields.get("keywords", "").split(",") if word.strip())
    return Citation(text.splitlines()[0].partition("{")[2].rstrip(","), shown, fields.get("eprint", ""), keywords)


def _numbers(paper: str) -> list[str]:
    """'https://arxiv.org/abs/2006.16236v2' -> ['2006.16236']; several for a hybrid, none for other addresses."""
    return re.findall(r"arxiv\.org/(?:abs|pdf)/(\d{4}\.\d{4,5})", paper)


def _source(about: dict[str, Any], whole: dict[str, Any]) -> str:
    """Name and source hash of a mechanism. whole: its hybrid, whose hash is the only one in older records."""
    return f"{about['name']} {about.get('source_hash') or whole.get('source_hash')}"


def _misc(record: Record, about: dict[str, Any], address: str, others: Collection[str]) -> str:
    """An entry for a mechanism that references.bib lacks. about: it, or a hybrid's part. others: the entries so far."""
    name, source = _source(about, record.attention).rsplit(" ", 1)
    key = re.sub(r"\W+", "_", name)
    if any(f"{{{key}," in text for text in others):
        key = f"{key}_{source[:4]}"
    url = f"  url = {{{address}}},\n" if address else ""
    note = f"  note = {{attention mechanism {escape(name)}, source {source}}},\n"
    return f"% {record.row}\n@misc{{{key},\n  title = {{{escape(str(about.get('title') or name))}}},\n{url}{note}}}\n"
