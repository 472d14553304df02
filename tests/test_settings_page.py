"""docs/settings.md is made from the fields and their comments, and lacks no setting."""

import ast
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import tasks
from lra.backbones import registry
from lra.cli import main
from lra.commands import environment, settings_page
from lra.config.descriptions import descriptions
from lra.config.schema import Model, Train
from lra.results import locks

ROOT = Path(__file__).parent.parent
CODE = [path for folder in ("lra", "attention_zoo", "tasks", "tests") for path in (ROOT / folder).rglob("*.py")]
NOT_READ = (Path(environment.__file__), Path(__file__))  # these two name variables without reading them


@dataclass
class Base:
    """A comment, # which is none, in a docstring."""

    bare: int
    beside: int  # beside it
    # above it,
    # in two lines
    above: str = "# no comment"
    wide: tuple[int, ...] = ()  # at its end


@dataclass
class Derived(Base):
    above: str = ""
    beside: int  # its own


@pytest.fixture(scope="module")
def page() -> str:
    return settings_page.page()


def test_byte_for_byte(page: str):
    stale = "docs/settings.md is stale: run `python run_lra.py protocol keys --page docs/settings.md` and commit"
    assert (ROOT / "docs" / "settings.md").read_text(encoding="utf-8") == page, stale


def test_comments_are_descriptions():
    above = "above it, in two lines"
    assert descriptions(Base) == {"bare": "", "beside": "beside it", "above": above, "wide": "at its end"}
    assert descriptions(Derived) == {"bare": "", "beside": "its own", "above": above, "wide": "at its end"}


@pytest.mark.parametrize("section", [Model, Train, *settings_page.settings_of_tasks()], ids=str)
def test_every_field_has_a_description(section: type):
    assert [key for key, meaning in descriptions(section).items() if not meaning] == [], "write a comment beside it"


@pytest.mark.parametrize("name", registry.names())
def test_every_key_of_a_backbone_has_a_description(name: str):
    meanings = registry.meanings(name)
    assert list(meanings) == list(registry.read_builtin(name).keys)
    assert all(meanings.values()), "write `key: what it means` in the docstring of the class"


def test_every_key_has_a_line_in_its_section(page: str):
    keys = {"model": [*descriptions(Model)], "train": [*descriptions(Train)], "data": []}
    keys["model"] += [key for name in registry.names() for key in registry.read_builtin(name).keys]
    keys["data"] = [key for kind in settings_page.settings_of_tasks() for key in descriptions(kind)]
    for section, names in keys.items():
        assert re.findall(rf"^\| `{section}\.(\w+)` \|", page, re.MULTILINE) == names
    assert sorted(name for names in settings_page.settings_of_tasks().values() for name in names) == tasks.names()


@pytest.mark.parametrize(
    "line",
    [
        "| `model.layers` | a whole number | none; standard: `2` | blocks of the model, each with an attention and an "
        "MLP | deep: `6`; google: *by task*; pyramid: `3` |",
        "| `model.grid` | `true` or `false` | `false` | let mechanisms see an image as rows and columns; LRA's rule is "
        "a flat sequence of pixels | pyramid: `true` on 5 of 9 tasks |",
        "| `data.brackets` | `true` or `false` | `true` | quirk: false drops the closing brackets, as "
        "Nystromformer's and Skyformer's suites did | nystromformer, skyformer: `false` |",
        "| `model.widen` | a whole number | `2` | growth of width and MLP from stage to stage |  |",
    ],
)
def test_lines(line: str, page: str):
    assert line in page.splitlines()


def constants(path: Path) -> Iterator[str]:
    """The string constants of a file, which could name a variable."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def read_from_environment(path: Path) -> Iterator[str]:
    """The variables that a file names in os.environ.get(...), os.environ[...] or `... in os.environ`."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        name = None
        if isinstance(node, ast.Call) and re.fullmatch(r"os\.environ\.\w+", ast.unparse(node.func)) and node.args:
            name = node.args[0]
        elif isinstance(node, ast.Subscript) and ast.unparse(node.value) == "os.environ":
            name = node.slice
        elif isinstance(node, ast.Compare) and ast.unparse(node.comparators[0]) == "os.environ":
            name = node.left
        if isinstance(name, ast.Constant) and isinstance(name.value, str):
            yield name.value


def test_every_variable_of_ours_is_named(page: str):
    read = {
        name for path in CODE if path not in NOT_READ for name in constants(path) if re.fullmatch("LRA_[A-Z_]+", name)
    }
    assert read == set(environment.OURS)
    assert all(f"| `{name}` |" in page for name in read)


def test_every_other_variable_is_named():
    code = [path for path in CODE if ROOT / "tests" not in path.parents and path not in NOT_READ]
    known = {*environment.OURS, *environment.OTHERS}
    assert {name for path in code for name in read_from_environment(path)} <= known
    assert set(environment.OTHERS) <= {name for path in code for name in constants(path)}, "no longer read"


def test_defaults_of_variables_are_those_of_the_code():
    from tasks import _intact

    assert environment.OURS["LRA_STALE"][0] == f"{locks.STALE:g}"
    assert environment.OURS["LRA_VERIFY_DAYS"][0] == f"{_intact.DAYS:g}"


def test_every_extra_is_named(page: str):
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    assert list(environment.EXTRAS) == list(extras)
    for extra, packages in extras.items():
        if extra != "dev":
            assert environment.EXTRAS[extra][0] == ", ".join(re.split("[<>=]", package)[0] for package in packages)
        assert f"| `{extra}` |" in page


def test_command(tmp_path: Path, page: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(settings_page, "page", lambda: page)
    assert main(["protocol", "keys"]) == 0
    assert capsys.readouterr().out == page
    assert main(["protocol", "keys", "--page", str(tmp_path / "settings.md")]) == 0
    assert (tmp_path / "settings.md").read_text(encoding="utf-8") == page
    assert main(["protocol", "keys", "--page", str(tmp_path / "nowhere" / "settings.md")]) == 2
    assert "give another file to --page" in capsys.readouterr().err
