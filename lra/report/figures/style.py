"""What all figures share: one style, one colour per mechanism, and files that are the same bytes each time.

Up to twelve mechanisms have a colour each. With more, no reader could tell the colours apart: then each family has a
hue and a marker, its mechanisms have shades of the hue, and mechanisms of the same shade differ in their dashes.

A figure is drawn once and saved as PNG, SVG and PDF; the page takes the SVG in, with colours that follow its theme.
"""

import io
import itertools
import re
import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib.style
from matplotlib.figure import Figure

from lra.report import conventions
from lra.report.groups import Group, base, rank
from lra.results.bench_record import Bench

# Okabe and Ito's palette, then Tol's muted one: colour-blind readers can tell them apart
COLOURS = ("#000000", "#E69F00", "#56B4E9", "#009E73", "#CC79A7", "#D55E00")
COLOURS += ("#332288", "#882255", "#44AA99", "#999933", "#661100", "#6699CC")
GREYS = ("#777777", "#AAAAAA")  # of controls
# Shades of each family but the controls, in the order of conventions.FAMILIES. A search chose them: in Oklab any two
# are 0.10 apart, 0.05 for readers with deuteranopia or protanopia and 0.06 with tritanopia (GREYS and black included).
HUES = (
    ("#000000", "#45596B"),
    ("#3265F3", "#2E1EA6", "#9DC2FF", "#818BC4"),
    ("#1F7B51", "#29BF6A", "#219F92", "#19E0D2"),
    ("#D4343A", "#925E00", "#E06C42", "#863D39"),
    ("#B42EC4", "#710054", "#EA6CF3", "#704090"),
    ("#C2A90F", "#C1CA84"),
    ("#4E3A1F", "#A9896C"),
)
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "o")  # of families in the order of conventions.FAMILIES
DASHES = ("-", (0, (5, 1.5)), (0, (1.5, 1.2)), (0, (6, 1.5, 1.5, 1.5)), (0, (9, 2)), (0, (6, 1.5, 1.5, 1.5, 1.5, 1.5)))
DOTS = (":", (0, (1, 3)), (0, (1, 1, 1, 4)))  # of controls
MUTED, LINE = "#555555", "#888888"
THEMED = {"#000000": "--ink", "#ffffff": "--page", "#555555": "--muted", "#888888": "--rule"}
THEMED |= {"#332288": "--indigo", "#882255": "--wine", "#661100": "--brown"}  # too dark for a dark page as they are
THEMED |= {"#2e1ea6": "--navy", "#710054": "--plum", "#704090": "--grape", "#863d39": "--maroon", "#45596b": "--slate"}
THEMED |= {"#4e3a1f": "--umber"}
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
    """One colour per mechanism in all figures of a report. colours, families: by name without options.

    by_family: the colours are shades of the families' hues.
    """

    colours: dict[str, str]
    families: dict[str, str]
    by_family: bool = False

    def colour(self, row: str) -> str:
        return self.colours[base(row)]

    def family(self, row: str) -> str:
        return self.families[base(row)]

    def is_control(self, row: str) -> bool:
        return self.family(row) == conventions.CONTROL

    def marker(self, row: str) -> str:
        """The shape of a row's points: one for each family if the colours are by family, else a circle."""
        return MARKERS[conventions.family_order(self.family(row))] if self.by_family else "o"

    def dashes(self, rows: Sequence[str]) -> dict[str, object]:
        """A pattern per row, so that rows of one colour differ; controls are dotted."""
        counts: Counter[str] = Counter()
        patterns: dict[str, object] = {}
        for row in rows:
            colour = self.colour(row)
            choices = DOTS if self.is_control(row) else DASHES
            patterns[row] = choices[counts[colour] % len(choices)]
            counts[colour] += 1
        return patterns


def palette(groups: Sequence[Group], benches: Sequence[Bench] = ()) -> Palette:
    """The palette of a report on these groups and bench records."""
    measured = {b.row: conventions.family_of(b.attention, base(b.row)) for b in benches}
    return palette_of(measured | {row: family for group in groups for row, family in group.families.items()})


def palette_of(families: Mapping[str, str]) -> Palette:
    """The palette of a report with these rows (row -> family). Colours follow the rows' ranks; controls are grey."""
    family_of = {base(row): family for row, family in families.items()}
    names = sorted(family_of, key=lambda name: rank(name, family_of[name] == conventions.CONTROL))
    members: dict[str, list[str]] = {}
    for name in names:
        members.setdefault(family_of[name], []).append(name)
    greys = dict(zip(members.pop(conventions.CONTROL, []), itertools.cycle(GREYS), strict=False))
    coloured = [name for name in names if name not in greys]
    if len(coloured) <= len(COLOURS):
        return Palette(dict(zip(coloured, COLOURS, strict=False)) | greys, family_of)
    shades = {family: itertools.cycle(HUES[conventions.family_order(family)]) for family in members}
    return Palette({name: next(shades[family_of[name]]) for name in coloured} | greys, family_of, by_family=True)


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
    text_style = {"ha": "left", "va": "top", "linespacing": 1.25}
    figure.text(0.1 / width, 1 - 0.09 / height, "\n".join(head), fontsize=10.5, gid="title", **text_style)
    figure.text(0.1 / width, 1 - under / height, "\n".join(small), fontsize=7.5, color=MUTED, **text_style)
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

    A part drawn with gid 'row pola' becomes `data-row="pola"`, so that the page can highlight one mechanism, and
    'family linear' becomes `data-family="linear"`.
    """
    text = svg.decode()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    text = re.sub(r' id="(row|family) ([^"]*)"', r' data-\1="\2"', text)
    used_ids = set(re.findall(r"#([\w.-]+)", text))
    text = re.sub(r' id="([^"]*)"', lambda m: m[0] if m[1] in used_ids else "", text)
    text = re.sub(r"font: (?:bold )?([\d.]+)px [^;\"]*", r"font-size: \1px", text)
    text = re.sub(r"#[0-9a-f]{6}\b", lambda m: f"var({THEMED[m[0]]})" if m[0] in THEMED else m[0], text)
    text = re.sub(
        r'<svg [^>]*?(viewBox="[^"]*")[^>]*>', r'<svg \1 aria-hidden="true" focusable="false">', text, count=1
    )
    return re.sub(r"\n\s*", "\n", text)


def themed(colour: str) -> str:
    """A colour as the page writes it."""
    return f"var({THEMED[colour.lower()]})" if colour.lower() in THEMED else colour
