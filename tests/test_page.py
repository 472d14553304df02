"""The report's page in a real Chromium without a network: what it shows, sorts and filters, and its size."""

import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import records
from pictures import leave_undrawn
from PIL import Image

from lra.errors import RecordError
from lra.report import write
from lra.report.figures import scaling, scatter, style
from lra.report.groups import Group, grouped
from lra.report.page import html, inspected, provenance
from lra.report.tables import seeds
from lra.results import bench_record
from lra.results.record import save

CHROMIUM = next((path for name in ("chromium", "chromium-browser") if (path := shutil.which(name))), None)
IN_CI = os.environ.get("CI") == "true"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a report on 220 runs of one protocol, three of another, and a broken record.

    The page shows SVG alone: pictures of other kinds are not drawn.
    """
    folder = tmp_path_factory.mktemp("runs")
    others = [records.run("softmax", seed=seed, protocol="quick") for seed in range(3)]
    for record in [*records.grid(), *others]:
        save(record, folder)
    (folder / "broken.json").write_text("{")
    for row, power in (("softmax", 2.0), ("relu", 1.0), ("taylor", 1.0)):  # taylor has no runs
        for length in (256, 1024, 4096):
            lost = {"status": "out of memory", "seconds": [], "peak_bytes": None} if power * length > 8000 else {}
            bench_record.save(records.bench(row, length, power, **lost), folder / "bench")
    out = tmp_path_factory.mktemp("report")
    write_inspected(out / "inspect" / "image-quick")
    with pytest.MonkeyPatch.context() as patch:
        leave_undrawn(patch, "pdf", "png")
        write([folder], out)
    return out


def write_inspected(folder: Path) -> None:
    """Writes what `inspect` writes: a picture and its index."""
    folder.mkdir(parents=True)
    Image.new("RGB", (40, 30), "red").save(folder / "maps.png")
    figure = {"title": "Maps of relu", "file": "maps.png", "alt": "A red field"}
    index = {"title": "Inside the attention: image", "notes": ["On 8 samples."], "figures": [figure]}
    (folder / "figures.json").write_text(json.dumps(index))


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        (pytest.fail if IN_CI else pytest.skip)("no chromium on this machine: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture
def shown(browser: Any, report: Path) -> Iterator[Any]:
    """The page, newly opened; it must write nothing to the console and request nothing but itself."""
    said, asked = [], []
    context = browser.new_context(viewport={"width": 1280, "height": 900}, color_scheme="light", offline=True)
    tab = context.new_page()
    tab.on("console", lambda message: said.append(message.text))
    tab.on("pageerror", lambda error: said.append(str(error)))
    tab.on("request", lambda request: asked.append(request.url))
    tab.goto((report / "report.html").as_uri())
    yield tab
    assert said == []
    assert asked == [(report / "report.html").as_uri()]
    context.close()


def names(tab: Any, table: str = "standard-float32") -> list[str]:
    """The names of the visible rows of a leaderboard, from top to bottom."""
    return tab.locator(f"#{table} .leaderboard tbody.rows tr:visible th").all_inner_texts()


def column(tab: Any, place: int) -> list[float]:
    cells = tab.locator(f"#standard-float32 .leaderboard tbody.rows tr td:nth-child({place})").all()
    return [float(cell.get_attribute("data-sort")) for cell in cells]


def test_every_element_is_there(shown: Any):
    group = shown.locator("#standard-float32")
    assert shown.locator("h1").inner_text() == "Long Range Arena"
    assert "223 runs, 9 attentions, 5 tasks" in shown.locator(".facts").first.inner_text()
    assert len(names(shown)) == 9
    assert group.locator(".trivial td").first.inner_text().split() == ["36.4", "root", "operator"]
    assert group.locator(".speed figure svg").count() == 6  # five tasks and their average
    assert group.locator(".curves figure svg").count() == 5
    assert group.locator(".forest:visible tbody tr").count() == 8
    assert group.locator(".completeness .cells .state").count() == 9 * 5 * 5
    key = group.locator(".key li").all_inner_texts()
    assert [words[1:].strip() for words in key] == [
        *("done: 205", "at chance: 5", "diverged: 5", "failed: 5", "missing: 5"),
    ]
    assert group.locator(".provenance details").count() == 9 + 5
    assert shown.locator(".lengths figure svg").count() == 2
    assert "softmax at 4,096: out of memory" in shown.locator(".lengths .note").inner_text()
    picture = shown.locator(".inside figure img")
    assert picture.get_attribute("alt") == "A red field"
    assert picture.evaluate("image => image.naturalWidth") == 40
    assert "broken.json is not a record" in shown.locator("#left-out + ul").inner_text()


def test_sorting_puts_empty_cells_last_and_says_its_order(shown: Any):
    header = shown.locator("#standard-float32 .leaderboard thead th").nth(1)
    assert names(shown)[:2] == ["softmax", "softmax:conv=5"]
    header.locator("button").click()
    assert header.get_attribute("aria-sort") == "descending"
    assert column(shown, 2) == sorted(column(shown, 2), reverse=True)
    header.locator("button").focus()
    shown.keyboard.press("Enter")
    assert header.get_attribute("aria-sort") == "ascending"
    assert column(shown, 2) == sorted(column(shown, 2))
    empty = names(shown)[3]
    row = shown.locator("#standard-float32 .leaderboard tbody.rows tr").nth(3)
    row.locator("td").first.evaluate("cell => { cell.dataset.sort = '' }")
    for _ in range(2):
        header.locator("button").click()
        assert names(shown)[-1] == empty
    assert shown.locator("#standard-float32 .leaderboard th[aria-sort]:not([aria-sort=none])").count() == 1


def test_filters(shown: Any):
    assert shown.locator("#count").inner_text() == "10 rows in 2 tables"
    shown.select_option("#protocol", "quick")
    assert shown.locator(".group:visible").count() == 1
    assert names(shown, "quick-float32") == ["softmax"]
    shown.select_option("#protocol", "")
    shown.select_option("#data", label="Text, generated text-0")
    assert shown.locator(".group:visible").count() == 1
    heads = shown.locator("#standard-float32 .leaderboard thead th:visible").all_inner_texts()
    assert [head.strip() for head in heads][:3] == ["Attention", "Text", "Average of 5"]
    assert shown.locator("#standard-float32 .curves figure:visible").count() == 1
    shown.select_option("#data", "")
    shown.fill("#find", "SOFT conv")
    assert names(shown) == ["softmax:conv=5"]
    assert shown.locator("#count").inner_text() == "1 row in 2 tables"
    shown.fill("#find", "softmax:conv")
    assert shown.locator("#standard-float32 .forest:visible tbody tr:visible").count() == 1
    without_runs = shown.locator(".lengths figure").first.locator("[data-row=taylor]:visible")
    assert without_runs.count() == 0, "it has a curve of its times, but no line in a leaderboard"
    shown.fill("#find", "TAY")
    assert without_runs.count() > 0
    shown.fill("#find", "")
    families = shown.locator("#family option").all_inner_texts()
    assert families == ["all", "softmax", "linear", "low rank", "other", "control"]
    shown.select_option("#family", "linear")
    assert names(shown) == ["relu", "elu", "flatten", "pola"]
    assert shown.locator("#standard-float32 .forest:visible tbody tr:visible").count() == 4
    drawn = shown.locator("#standard-float32 .curves figure").first
    assert drawn.locator("[data-row=pola]:visible").count() >= 3, "the curve, its sample in the legend, its name"
    assert drawn.locator("[data-row=agent]:visible").count() == without_runs.count() == 0
    shown.select_option("#family", "")
    assert drawn.locator("[data-row=agent]:visible").count() >= 3
    assert without_runs.count() > 0
    assert shown.locator("th.more:visible").count() == 0
    shown.check("#more")
    assert "Fidelity" in shown.locator("#standard-float32 th.more:visible").all_inner_texts()
    fidelity = shown.locator("#standard-float32 th.more").filter(has_text="Fidelity")
    assert fidelity.locator("button").count() == 0, "words have no order"
    assert shown.locator("#standard-float32 th.more").filter(has_text="attention's own").locator("button").count() == 1


def test_another_baseline(shown: Any):
    first = shown.locator("#standard-float32 .forest:visible")
    assert first.locator("thead th").first.inner_text() == "minus softmax"
    shown.select_option("#baseline", "pola")
    now = shown.locator("#standard-float32 .forest:visible")
    assert now.count() == 1
    assert now.locator("thead th").first.inner_text() == "minus pola"
    row = now.locator("tbody tr", has_text="softmax").first
    assert row.locator("td").first.inner_text().strip().startswith("\N{MINUS SIGN}")
    assert shown.locator("#quick-float32 .forest").count() == 0  # one row has nothing to differ from


def test_dark_by_the_system_and_by_the_button(browser: Any, report: Path):
    paper, night = "rgb(255, 255, 255)", "rgb(20, 22, 26)"
    context = browser.new_context(color_scheme="dark")
    tab = context.new_page()
    tab.goto((report / "report.html").as_uri())

    def background() -> str:
        return tab.evaluate("getComputedStyle(document.body).backgroundColor")

    assert background() == night
    line = ".curves svg [data-row=softmax] path[style*=stroke]"
    ink = tab.evaluate("line => getComputedStyle(document.querySelector(line)).stroke", line)
    assert ink == "rgb(232, 233, 235)"
    for expected in ("Theme: light", "Theme: dark", "Theme: auto"):
        tab.click("#theme")
        assert tab.locator("#theme").inner_text() == expected
        assert background() == (paper if expected == "Theme: light" else night)
    context.close()


def test_a_row_leads_to_its_runs_and_highlights_its_curve(shown: Any):
    row = shown.locator("#standard-float32 tr[data-row=pola]")
    row.hover()
    lines = shown.locator("#standard-float32 .curves figure").first
    assert lines.locator("[data-row=pola].on").count() > 0
    assert lines.locator("[data-row=relu].on").count() == 0
    row.locator("a").click()
    details = shown.locator("#standard-float32 .provenance details[open]")
    assert details.count() == 1
    words = details.inner_text()
    for fact in (
        "https://example.org/paper",
        "adapted: 1-D convolution",
        "82,500 total",
        "A Processor, 2 threads",
        "abc",
    ):
        assert fact in words
    assert details.locator("tbody tr").count() == 25


def test_what_a_screen_reader_needs(shown: Any):
    assert shown.locator("html").get_attribute("lang") == "en"
    unnamed = shown.evaluate(
        """() => [...document.querySelectorAll(`th:not([scope]), figure [role=img]:not([aria-label]), img:not([alt]),
        svg:not([aria-hidden]), .scroll:not([aria-label]):not(details .scroll)`)].map((e) => e.outerHTML)"""
    )
    assert unnamed == []
    repeated = shown.evaluate(
        "() => { const ids = [...document.querySelectorAll('[id]')].map((e) => e.id);"
        " return ids.filter((id, place) => ids.indexOf(id) !== place); }"
    )
    assert repeated == []


def test_five_tasks_fit_a_screen_of_1280_pixels(browser: Any, tmp_path: Path):
    """With 23 rows, neither the page nor a table scrolls sideways, and no cell is cut."""
    (group,) = grouped(records.five_tasks())
    group = dataclasses.replace(group, milliseconds=dict.fromkeys(group.rows, 1234.5))
    (tmp_path / "report.html").write_text(html.render(html.Material([group], {})))
    context = browser.new_context(viewport={"width": 1280, "height": 900}, offline=True)
    tab = context.new_page()
    tab.goto((tmp_path / "report.html").as_uri())
    assert tab.evaluate("document.documentElement.scrollWidth") <= 1280
    assert tab.locator(".leaderboard tbody.rows tr").count() == 23
    assert tab.locator(".leaderboard thead th:visible").count() == 12
    (edges,) = tab.evaluate(
        """() => [...document.querySelectorAll(".leaderboard")].map((table) => [table.getBoundingClientRect().right,
        table.parentNode.scrollWidth - table.parentNode.clientWidth])"""
    )
    assert edges[0] <= 1280
    assert edges[1] <= 0
    context.close()


def test_narrow_screens_do_not_scroll_sideways(shown: Any):
    shown.set_viewport_size({"width": 380, "height": 800})
    assert shown.evaluate("document.documentElement.scrollWidth") <= 380


def test_small_and_whole(report: Path):
    content = (report / "report.html").read_bytes()
    assert len(content) < 3_000_000
    for reference in (b"<link", b"<script src", b'src="http', b"@import", b"url(http"):
        assert reference not in content


def test_the_same_bytes_in_any_process(tmp_path: Path):
    folder = tmp_path / "runs"
    folder.mkdir()
    for record in records.grid(rows=3, tasks=1, seeds=3):
        save(record, folder)
    code = "import sys, lra.report as r; from pathlib import Path; r.write([Path(sys.argv[1])], Path(sys.argv[2]))"
    for seed in ("1", "2"):
        command = [sys.executable, "-c", code, str(folder), str(tmp_path / seed)]
        subprocess.run(
            command, check=True, env={**os.environ, "PYTHONHASHSEED": seed}, cwd=Path(__file__).parent.parent
        )
    files = sorted(file.relative_to(tmp_path / "1") for file in (tmp_path / "1").rglob("*.*"))
    assert {file.suffix for file in files} >= {".html", ".svg", ".pdf", ".png", ".md", ".csv"}
    for file in files:
        assert (tmp_path / "1" / file).read_bytes() == (tmp_path / "2" / file).read_bytes(), file


def test_a_users_text_stays_text():
    attention = {"name": "x", "title": "<script>alert(1)</script>", "paper": "javascript:alert(1)", "source_hash": ""}
    row = 'x"><b>$\\alpha$'
    (group,) = grouped([records.run(row, seed=s, attention=attention, points=2) for s in range(3)])
    drawn = {f"figures/{n}": c for n, c in curves_of(group).items()}
    content = html.render(html.Material([group], drawn, ["<i>note</i>"]))
    for evil in ("<script>alert", 'x"><b>', "<i>note", 'href="javascript'):
        assert evil not in content


def curves_of(group: Group) -> dict[str, bytes]:
    from lra.report.figures import curves

    return curves.draw(group, style.palette([group]))


def test_the_front_is_what_none_beats():
    points = {"softmax": (60.0, 9e4), "relu": (59.0, 5e4), "elu": (61.0, 6e4), "pola": (65.0, 1e4), "mean": (66.0, 2e5)}
    bubbles = tuple(
        scatter.Bubble(row, row == "mean", accuracy, None, tokens, None) for row, (accuracy, tokens) in points.items()
    )
    found = scatter.Scatter("listops", "ListOps", "here", bubbles, ())
    assert [b.row for b in found.front] == ["pola", "elu", "softmax"]  # relu is beaten, mean is a control


def test_speeds_of_two_machines_are_not_compared():
    here = [records.run(row) for row in ("softmax", "relu")]
    there = records.run("pola", environment={"device": "cuda", "device_name": "A GPU"})
    (group,) = grouped([*here, there])
    (found,) = scatter.scatters(group)
    assert [b.row for b in found.bubbles] == ["softmax", "relu"]
    assert found.left_out == ("pola",)


def test_the_average_of_the_figure_is_that_of_the_table():
    made = [records.run(row, task) for row in ("softmax", "relu") for task in ("listops", "text")]
    made += [dataclasses.replace(records.run(row, "text"), task="retrieval_matched") for row in ("softmax", "relu")]
    (group,) = grouped(made)
    average, *single = scatter.scatters(group)
    assert average.title == next(iter(group.averages)) == "Average of 2", "matched Retrieval is in no average"
    assert len(single) == 3


def test_states_of_a_grid():
    (group,) = grouped(records.grid(rows=5, tasks=1))
    assert provenance.seeds(group) == [0, 1, 2, 3, 4]
    (flatten,), (agent,) = (provenance.states(group, row) for row in ("flatten", "agent"))
    assert [state.key for _, state in flatten] == ["done", "done", "done", "chance", "done"]
    assert [state.key for _, state in agent] == ["done", "done", "done", "done", "missing"]


def test_a_row_whose_first_run_failed_has_the_sizes_of_the_others():
    failed, done = records.run("relu", state="failed", parameters={}), records.run("relu", seed=1)
    assert provenance.about([failed, done]) == provenance.about([done])


def test_an_unknown_baseline_names_the_nearest(tmp_path: Path):
    save(records.run("softmax"), tmp_path)
    with pytest.raises(RecordError, match=r"no row 'sofmax'.*did you mean 'softmax'"):
        write([tmp_path], tmp_path / "out", "sofmax")
    (group,) = grouped([records.run(row) for row in ("relu", "elu")])
    assert seeds.baseline_of(group) == "relu"


def test_growth_is_the_exponent_between_the_longest():
    lost = {"status": "out of memory", "seconds": [], "peak_bytes": None}
    benches = [records.bench("softmax", n, 2.0) for n in (256, 512)] + [records.bench("softmax", 1024, **lost)]
    (found,) = scaling.collect([*benches, records.bench("relu", 256), records.bench("relu", 512)])
    assert found.growth("softmax") == pytest.approx(2)
    assert found.growth("relu") == pytest.approx(1)
    far = [records.bench(row, n) for row in ("relu", "elu") for n in (1024, 4096)]
    measured = scaling.collect([*benches, *far])
    (standard,), (quick,) = (grouped([records.run("relu", protocol=p)]) for p in ("standard", "quick"))
    assert scaling.milliseconds(measured, standard) == pytest.approx({"relu": 160, "elu": 160})
    assert scaling.milliseconds(measured, quick) == {}  # another model
    elsewhere = records.run("relu", protocol="standard", environment={"device": "cpu", "device_name": "another"})
    assert scaling.milliseconds(measured, *grouped([elsewhere])) == {}  # another machine
    assert found.lost == ["softmax at 1,024: out of memory"]
    elsewhere = records.bench("relu", 512, environment={"device": "cuda"})
    assert scaling.collect([benches[0], elsewhere]) == []  # one length on each machine is no curve


def test_a_mechanism_has_one_colour_in_all_figures_of_a_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Bench records have rows that are not the first of the table, and one row that the table lacks."""
    for record in (records.run(row, seed=seed) for row in ("fnet", "nystrom", "s4d") for seed in range(3)):
        save(record, tmp_path)
    for bench in (records.bench(row, n) for row in ("nystrom", "s4d", "taylor") for n in (256, 512)):
        bench_record.save(bench, tmp_path / "bench")
    leave_undrawn(monkeypatch, "pdf", "png")
    made = write([tmp_path], tmp_path / "out")
    seen: dict[str, set[str]] = {}
    for file in made.files:
        if file.suffix == ".svg":
            for row, part in re.findall(r'<g id="row ([^"]*)">(.*?)</g>', file.read_text(), re.DOTALL):
                seen.setdefault(row, set()).update(re.findall(r"stroke: (#[0-9a-f]{6})", part))
    assert seen.keys() == {"fnet", "nystrom", "s4d", "taylor"}
    assert all(len(colours) == 1 for colours in seen.values())


def test_pictures_have_a_ceiling_and_a_broken_index_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_inspected(tmp_path / "inspect" / "one")
    (folder,), problems = inspected.find(tmp_path)
    assert (folder.title, len(folder.pictures), folder.left_out, problems) == ("Inside the attention: image", 1, (), [])
    monkeypatch.setattr(inspected, "MOST_BYTES", 10)
    (folder,), _ = inspected.find(tmp_path / "report")
    assert (folder.pictures, folder.left_out) == ((), ("one/maps.png",))
    (tmp_path / "inspect" / "one" / "figures.json").write_text('{"figures": [{"file": "absent.png"}]}')
    folders, (problem,) = inspected.find(tmp_path)
    assert folders == []
    assert "holds no readable figures" in problem
