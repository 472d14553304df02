"""Which room may import which: one table, checked against every import in every file, also inside functions."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
GROUND = {"errors", "hashing", "signals"}
ENGINE = {"config", "results", "console", "stats", "backbones", "training", "zoo", "tasks"} | GROUND
# A room is a folder or a module of lra/, or the package attention_zoo (zoo) or tasks.
ARROWS = {
    "zoo": set(),
    "tasks": set(),
    "errors": set(),
    "hashing": set(),
    "signals": set(),
    "stats": set(),
    "console": {"errors"},
    "config": GROUND,
    "backbones": {"hashing"},
    "results": {"console"} | GROUND,
    "training": {"config", "results", "console"} | GROUND,
    "experiments": ENGINE,
    "report": {"results", "stats"} | GROUND,
    "bench": {"experiments"} | ENGINE,
    "testing": {"bench", "experiments"} | ENGINE,  # bench: it counts operations
    "inspect": {"experiments", "report"} | ENGINE,  # report: one style for all figures
    "audit": {"experiments", "report", "bench"} | ENGINE,
    "gpu": {"experiments", "report"} | ENGINE,
    "commands": {"audit", "gpu", "bench", "testing", "inspect", "report", "experiments"} | ENGINE,
    "cli": {"commands", "errors", "signals", "zoo", "tasks"},
    "lra": {"errors", "report", "experiments"},  # lra/__init__.py: what a notebook needs
}
PACKAGES = {  # what rooms may import from outside, besides the standard library
    "zoo": {"torch"},
    "tasks": {"numpy", "numba", "llvmlite", "datasets", "PIL", "scipy", "sklearn", "tqdm"},
    "errors": set(),
    "hashing": set(),
    "signals": set(),
    "stats": {"numpy", "scipy"},
    "console": {"tqdm"},
    "config": {"yaml", "jsonargparse"},
    "backbones": {"torch"},
    "results": {"numpy", "torch"},  # what machine made a record; imported when one is made
    "training": {"numpy", "torch", "safetensors", "loky", "tqdm", "wandb"},
    "experiments": {"numpy", "torch", "tqdm", "ray"},
    "report": {"numpy", "pandas", "matplotlib", "jinja2", "markupsafe", "tabulate", "yaml", "PIL"},
    "bench": {"numpy", "torch"},
    "testing": {"torch", "safetensors", "pytest"},
    "inspect": {"numpy", "torch", "pandas", "matplotlib", "tabulate"},
    "audit": {"pandas"},
    "gpu": set(),
    "commands": set(),
    "cli": set(),
    "lra": {"pandas"},
}
PRIVATE = {  # private modules of the zoo and the tasks that lra imports, and why
    # `rotate`: `powers` computes q and k anew, as `QKVAttention.project` does, but without the features
    "lra.inspect.powers": {"attention_zoo._parts"},
}
MODULES = [path for package in ("lra", "attention_zoo", "tasks") for path in sorted((ROOT / package).rglob("*.py"))]
TOPS = {"attention_zoo": "zoo", "tasks": "tasks"}


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room_of(module: str) -> str:
    """lra.training.step -> training; lra.cli and lra.__main__ -> cli; tasks.listops.task -> tasks."""
    top, *rest = module.replace(".__main__", ".cli").split(".")
    return TOPS.get(top) or (rest[0] if rest else "lra")


def imports(path: Path, top_only: bool = False) -> set[str]:
    """The modules that a file imports, also under TYPE_CHECKING; top_only: those that are imported with the file."""
    found = set()
    nodes = [(node, True) for node in ast.parse(path.read_text(encoding="utf-8")).body]
    while nodes:
        node, top = nodes.pop()
        if top_only and isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.Import) and (top or not top_only):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and (top or not top_only):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        deeper = top and not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        nodes += [(child, deeper) for child in ast.iter_child_nodes(node)]
    return found


KNOWN = frozenset(map(name_of, MODULES))


def ours(name: str) -> str | None:
    """The module here that holds an imported name, or None: lra.training.step.Step -> lra.training.step."""
    parts = name.split(".")
    prefixes = (".".join(parts[:count]) for count in range(len(parts), 0, -1))
    return next((prefix for prefix in prefixes if prefix in KNOWN), None)


def outside(path: Path) -> set[str]:
    tops = {name.split(".")[0] for name in imports(path)}
    return tops - sys.stdlib_module_names - {"lra", "attention_zoo", "tasks"}


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_room_imports_only_what_the_table_allows(path):
    room = room_of(name_of(path))
    rooms = {room_of(module) for module in map(ours, imports(path)) if module}
    assert rooms - {room} <= ARROWS[room]
    assert outside(path) <= PACKAGES[room]


def test_the_tables_name_every_room_and_no_package_more():
    used: dict[str, set[str]] = {room: set() for room in ARROWS}
    for path in MODULES:
        used[room_of(name_of(path))] |= outside(path)
    assert used == PACKAGES


def test_the_table_has_every_room_and_no_circle():
    assert {room_of(name_of(path)) for path in MODULES} == set(ARROWS) == set(PACKAGES)
    floors: dict[str, int] = {}
    while len(floors) < len(ARROWS):
        ready = [room for room, below in ARROWS.items() if room not in floors and below <= set(floors)]
        assert ready, f"a circle among {set(ARROWS) - set(floors)}"
        floors |= dict.fromkeys(ready, len(set(floors.values())))
    assert len(ARROWS) <= 21
    assert len(set(floors.values())) <= 9


def test_lra_imports_what_the_zoo_and_the_tasks_offer():
    """lra imports no private module of the zoo or the tasks, except those in the table."""
    private: dict[str, set[str]] = {}
    for path in MODULES:
        for module in filter(None, map(ours, imports(path))):
            if room_of(name_of(path)) not in TOPS.values() and room_of(module) in TOPS.values() and "._" in module:
                private.setdefault(name_of(path), set()).add(module)
    assert private == PRIVATE


def test_no_two_modules_import_each_other_even_by_others():
    arrows = {name_of(path): {m for m in map(ours, imports(path)) if m and m != name_of(path)} for path in MODULES}
    done: set[str] = set()
    while ready := {module for module, below in arrows.items() if module not in done and below <= done}:
        done |= ready
    assert not set(arrows) - done, "a circle among these"


def test_the_top_of_lra_holds_seven_modules_at_most():
    assert len(list((ROOT / "lra").glob("*.py"))) <= 7


@pytest.mark.parametrize("path", [path for path in MODULES if path.parent.name == "commands"], ids=name_of)
def test_commands_import_the_standard_library(path):
    """Help and error messages then appear at once."""
    modules = {name for name in imports(path, top_only=True) if not name.startswith(("lra.errors", "lra.commands"))}
    assert not {name.split(".")[0] for name in modules} - sys.stdlib_module_names


@pytest.mark.parametrize("package", ["lra", "attention_zoo", "tasks"])
def test_budgets(package):
    """No file above 250 lines, no function above 60."""
    for path in (ROOT / package).rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert len(text.splitlines()) <= 250, path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef) and node.end_lineno:
                assert node.end_lineno - node.lineno < 60, f"{path}: {node.name}"


def test_one_file_imports_ray():
    """Other files get Ray from this one, so that only `--engine ray` needs it."""
    knowing = [name_of(path) for path in MODULES if {name.split(".")[0] for name in imports(path)} & {"ray"}]
    assert knowing == ["lra.experiments.cluster.connect"]
