"""Who may import whom (HOUSE, section 1), read from the text of every file."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LIGHT = {"errors", "record", "cli", "config", "protocol", "__init__", "grid", "data", "cell", "run"}
LIGHT |= {"console", "listing", "noise", "benchrecord", "plan", "slot", "workers", "sweep", "audit", "track"}
HEAVY = {"torch", "pandas", "matplotlib", "numba", "datasets", "safetensors", "scipy"}


def imports(path: Path, top_only: bool = False) -> set[str]:
    """Modules a file imports; with top_only those that importing it brings in."""
    found = set()
    nodes = [(node, True) for node in ast.parse(path.read_text()).body]
    while nodes:
        node, top = nodes.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.Import) and (top or not top_only):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and (top or not top_only):
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
        deeper = top and not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        nodes += [(child, deeper) for child in ast.iter_child_nodes(node)]
    return found


def packages(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imports(path)}


@pytest.mark.parametrize("path", sorted((ROOT / "attention_zoo").glob("*.py")), ids=lambda path: path.stem)
def test_the_zoo_knows_tensors_only(path):
    assert not packages(path) & {"lra", "tasks", "numba", "datasets", "pandas"}


@pytest.mark.parametrize("path", sorted((ROOT / "tasks").glob("*.py")), ids=lambda path: path.stem)
def test_tasks_know_data_only(path):
    assert not packages(path) & {"lra", "attention_zoo", "torch"}


@pytest.mark.parametrize("path", sorted((ROOT / "lra" / "commands").glob("*.py")), ids=lambda path: path.stem)
def test_commands_import_the_standard_library(path):
    """The help and the messages of mistakes come at once."""
    ours = {"lra.errors", "lra.commands"}
    found = {name for name in imports(path, top_only=True) if not any(name.startswith(o) for o in ours)}
    assert not {name.split(".")[0] for name in found} - sys.stdlib_module_names


@pytest.mark.parametrize("path", sorted((ROOT / "lra").rglob("*.py")), ids=lambda path: path.stem)
def test_only_the_composition_sees_zoo_and_tasks(path):
    """cell and run join them, those that plan and those that list name them, the commands know their errors."""
    joining = (
        "cell",
        "run",
        "plan",
        "grid",
        "workers",
        "data",
        "listing",
        "new_attention",
        "cli",
        "workload",
        "fairness",
    )
    if path.parent.name not in ("commands", "testing") and path.stem not in joining:
        assert not packages(path) & {"attention_zoo", "tasks"}


@pytest.mark.parametrize("path", sorted((ROOT / "lra" / "report").glob("*.py")), ids=lambda path: path.stem)
def test_reports_need_no_torch(path):
    assert "torch" not in packages(path)
    allowed = {"lra", "lra.record", "lra.benchrecord", "lra.report", "lra.stats", "lra.noise", "lra.errors"}
    ours = {name for name in imports(path) if name.split(".")[0] == "lra"}
    assert all(any(name == a or name.startswith(f"{a}.") for a in allowed) for name in ours), ours


def test_record_is_standard_library_only():
    assert packages(ROOT / "lra" / "record.py") <= {
        "base64", "dataclasses", "hashlib", "json", "os", "re", "zlib", "pathlib", "typing", "lra",
    }  # fmt: skip


@pytest.mark.parametrize("name", sorted(LIGHT))
def test_planning_imports_nothing_heavy(name):
    tops = {module.split(".")[0] for module in imports(ROOT / "lra" / f"{name}.py", top_only=True)}
    assert not tops & HEAVY
    ours = {m.split(".")[1] for m in imports(ROOT / "lra" / f"{name}.py", top_only=True) if m.startswith("lra.")}
    assert ours <= LIGHT | {"commands"}


def test_encoder_imports_torch_only():
    assert packages(ROOT / "lra" / "encoder.py") <= {"torch", "hashlib", "math", "collections", "typing"}


@pytest.mark.parametrize("package", ["lra", "attention_zoo", "tasks"])
def test_budgets(package):
    """No file above 250 lines, no function above 40."""
    for path in (ROOT / package).rglob("*.py"):
        text = path.read_text()
        assert len(text.splitlines()) <= 250, path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef) and node.end_lineno:
                assert node.end_lineno - node.lineno < 40, f"{path}: {node.name}"
