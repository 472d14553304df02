"""What all figures share: one style, one colour per mechanism, and files that are the same bytes each time.

A figure is drawn once and saved as PNG, SVG and PDF; the page takes the SVG in, with colours that follow its theme.
"""

import io
import re
import textwrap
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import matplotlib.style
from matplotlib.figure import Figure

from lra.report import legacy
from lra.report.groups import Group, base, rank
from lra.results.bench_record import Bench

# Okabe and Ito's palette, then Tol's muted one: colour-blind readers can tell them apart
COLOURS = ("#000000", "#E69F00", "#56B4E9", "#009E73", "#CC79A7", "#D55E00")
COLOURS += ("#332288", "#882255", "#44AA99", "#999933", "#661100", "#6699CC")
GREYS = ("#777777", "#AAAAAA")  # of controls
DASHES = ("-", (0, (5, 1.5)), (0, (1.5, 1.2)), (0, (6, 1.5, 1.5, 1.5)))
DOTS = (":", (0, (1, 3)), (0, (1, 1, 1, 4)))  # of controls
INK, MUTED, LINE = "#000000", "#555555", "#888888"
THEMED = {"#000000": "--ink", "#ffffff": "--page", "#555555": "--muted", "#888888": "--rule"}
THEMED |= {"#332288": "--indigo", "#882255": "--wine", "#661100": "--brown"}  # too dark for a dark page as they are
METADATA = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {"Software": None}}
STYLE = {
    "svg.fonttype": "none",  # text stays text: searched, selected, read aloud
    "pdf.fonttype": 42,  # journals refuse Type 3
    "text.parse_math": False,
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
}


@dataclass(frozen=True)
class Palette:
    """One colour per mechanism in all figures of a report. colours: by name without options."""

    colours: dict[str, str]
    controls: frozenset[str] = frozenset()  # names without options

    def colour(self, row: str) -> str:
        return self.colours[base(row)]

    def is_control(self, row: str) -> bool:
        return base(row) in self.controls

    def dashes(self, rows: Sequence[str]) -> dict[str, object]:
        """A pattern per row, so that rows of one colour differ; controls are dotted."""
        seen: Counter[str] = Counter()
        patterns: dict[str, object] = {}
        for row in rows:
            colour = self.colour(row)
            choices = DOTS if self.is_control(row) else DASHES
            patterns[row] = choices[seen[colour] % len(choices)]
            seen[colour] += 1
        return patterns


def palette(groups: Sequence[Group], benches: Sequence[Bench] = ()) -> Palette:
    """The palette of a report on these groups and bench records."""
    controls = {base(row) for group in groups for row in group.controls}
    controls |= {base(b.row) for b in benches if legacy.is_control(b.attention, base(b.row))}
    return palette_of([*(row for group in groups for row in group.rows), *(b.row for b in benches)], controls)


def palette_of(rows: Iterable[str], controls: Iterable[str] = ()) -> Palette:
    """Colours in the order of the rows' ranks, greys for controls; beyond the last one they start again."""
    controls = frozenset(controls)
    names = sorted({base(row) for row in rows}, key=lambda name: rank(name, name in controls))
    coloured = [name for name in names if name not in controls]
    colours = {name: COLOURS[place % len(COLOURS)] for place, name in enumerate(coloured)}
    greys = {name: GREYS[place % len(GREYS)] for place, name in enumerate(n for n in names if n in controls)}
    return Palette(colours | greys, controls)


def style(salt: str):
    """The context in which a figure is drawn and saved. salt: the figure's name, for unique ids."""
    return matplotlib.style.context(["default", STYLE | {"svg.hashsalt": salt}])


def blank(title: str, caption: str, size: tuple[float, float], margins: tuple[float, float, float]) -> Figure:
    """An empty figure with its title and caption. size, and the margins left, right and bottom: in inches.

    Margins are fixed, so that figures of one kind line up and nothing is laid out twice.
    """
    (width, height), (left, right, bottom) = size, margins
    figure = Figure(figsize=size)
    head, small = textwrap.wrap(title, int(width * 11)), textwrap.wrap(caption, int(width * 18))
    under, top = 0.13 + 0.18 * len(head), 0.28 + 0.18 * len(head) + 0.14 * len(small)
    at = {"ha": "left", "va": "top", "linespacing": 1.25}
    figure.text(0.1 / width, 1 - 0.09 / height, "\n".join(head), fontsize=10.5, gid="title", **at)
    figure.text(0.1 / width, 1 - under / height, "\n".join(small), fontsize=7.5, color=MUTED, **at)
    edges = {"left": left / width, "right": 1 - right / width, "bottom": bottom / height, "top": 1 - top / height}
    figure.subplots_adjust(**edges, wspace=0.12)
    return figure


def save(figure: Figure, name: str, kinds: Sequence[str] = ("svg", "pdf")) -> dict[str, bytes]:
    """'name.svg' and so on -> content; to be called within `style`."""
    saved = {}
    for kind in kinds:
        content = io.BytesIO()
        figure.savefig(content, format=kind, dpi=150, metadata=METADATA[kind])
        saved[f"{name}.{kind}"] = content.getvalue()
    return saved


def inline(svg: bytes) -> str:
    """The SVG as an element of a page: without XML header and repeated ids, in the page's font and theme.

    A part drawn with gid 'row pola' becomes `data-row="pola"`, so that the page can highlight one mechanism.
    """
    text = svg.decode()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    text = re.sub(r' id="row ([^"]*)"', r' data-row="\1"', text)
    wanted = set(re.findall(r"#([\w.-]+)", text))
    text = re.sub(r' id="([^"]*)"', lambda m: m[0] if m[1] in wanted else "", text)
    text = re.sub(r"font: (?:bold )?([\d.]+)px [^;\"]*", r"font-size: \1px", text)
    text = re.sub(r"#[0-9a-f]{6}\b", lambda m: f"var({THEMED[m[0]]})" if m[0] in THEMED else m[0], text)
    text = re.sub(
        r'<svg [^>]*?(viewBox="[^"]*")[^>]*>', r'<svg \1 aria-hidden="true" focusable="false">', text, count=1
    )
    return re.sub(r"\n\s*", "\n", text)


def themed(colour: str) -> str:
    """A colour as the page writes it."""
    return f"var({THEMED[colour.lower()]})" if colour.lower() in THEMED else colour
