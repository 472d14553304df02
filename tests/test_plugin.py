"""An attention in a user's own file, anywhere on disk, and every way such a file can be wrong."""

import hashlib
import itertools
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from asking import asked, run_grid

import attention_zoo
from attention_zoo import SpecError, _plugin, _registry, _source
from lra.experiments.load import load_run
from lra.experiments.plan import name_rows
from lra.results.record import load

MINE = '''
import torch.nn.functional as F
from attention_zoo import Dims, QKVAttention, linear_attention, register


@register("mine", title="Mine", cost="O(N)")
class MyAttention(QKVAttention):
    """relu(q)^p (relu(k)^p)^T v."""

    def __init__(self, dims: Dims, *, power: float = 2.0, conv: int = 0):
        super().__init__(dims, conv=conv)
        self.power = power

    def attend(self, q, k, v, keep=None):
        return linear_attention(F.relu(q) ** self.power, F.relu(k) ** self.power, v, keep)
'''


@pytest.fixture
def mine(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(MINE)
    return path


WRONG = """
from attention_zoo import Attention, QKVAttention, register


@register("wrong", title="Wrong")
class Wrong({base}):
    def {method}:
        return {result}
"""


@pytest.mark.parametrize(
    ("base", "method", "result", "message"),
    [
        (
            "QKVAttention",
            "attend(self, q, k, v, keep=None)",
            "v.mean(2, keepdim=True)",
            "Wrong.attend returned (2, 2, 1, ",
        ),
        (
            "QKVAttention",
            "attend(self, q, k, v, keep=None)",
            "None",
            "Wrong.attend returned a NoneType for v of (2, 2, ",
        ),
        ("QKVAttention", "atend(self, q, k, v, keep=None)", "v", "Wrong has no method attend(q, k, v, keep=None)"),
        ("Attention", "forward(self, x, keep=None)", "x.mean(1, keepdim=True)", "Wrong returned (2, 1, "),
        ("Attention", "forward(self, x, keep=None)", "(x, keep)", "Wrong returned a tuple for x of (2, "),
    ],
)
def test_what_does_not_keep_the_shape_fails(tmp_path, base, method, result, message):
    """A smaller result would be broadcast, and training would go on."""
    path = tmp_path / "wrong.py"
    path.write_text(WRONG.format(base=base, method=method, result=result))
    (record,) = run_grid(asked(tmp_path / "runs", attentions=[str(path)]))
    assert record.status == "failed"
    assert message in record.reason


def test_by_path(mine):
    for spec in (f"{mine}", f"{mine}:mine", f"{mine}:mine:power=3", f"{mine}:power=3"):
        entry, options = attention_zoo.find(spec)
        assert entry.name == "mine"
        assert options == ({"power": 3.0} if "power" in spec else {})
        assert entry.row(options) == ("mine:power=3.0" if "power" in spec else "mine")
    assert not entry.builtin


def test_passes_the_contract(mine):
    from lra.testing import CHECKS

    for check in CHECKS.values():
        check(str(mine))


def test_trains_and_keeps_its_source(mine, tmp_path):
    out = tmp_path / "runs"
    (record,) = run_grid(asked(out, attentions=[f"{mine}:power=3"]))
    assert record.status == "done"
    assert record.row == "mine:power=3.0"
    (path,) = out.glob("*.json")
    assert load(path).attention["source"] == MINE
    assert load_run(path).weights


def test_two_files_with_one_name(mine, tmp_path):
    other = tmp_path / "other.py"
    other.write_text(MINE.replace("2.0", "4.0"))
    found = [attention_zoo.find(str(path)) for path in (mine, other)]
    rows = name_rows(found)
    assert rows[0] != rows[1]
    assert all(row.startswith("mine@") and len(row) == 9 for row in rows)


def test_a_cell_is_found_again_beside_another_of_its_name(mine, tmp_path, capsys):
    other = tmp_path / "other.py"
    other.write_text(MINE.replace("relu(q)", "relu(-q)"))
    request = asked(tmp_path / "runs", attentions=[str(mine)])
    (alone,) = run_grid(request)
    first, second = run_grid(replace(request, attentions=[str(mine), str(other)]))
    assert "1 of 2 runs have a final record and are skipped" in capsys.readouterr().err
    assert first == alone
    assert first.row == second.row == "mine"
    assert len(list((tmp_path / "runs").glob("*.json"))) == 2


def test_source_hash_ignores_comments(mine):
    entry, _ = attention_zoo.find(str(mine))

    def hash_of(text):
        (mine.parent / "edited").mkdir(exist_ok=True)
        path = mine.parent / "edited" / f"{hashlib.sha256(text.encode()).hexdigest()}.py"
        path.write_text(text)
        return attention_zoo.find(str(path))[0].source_hash

    assert hash_of(MINE.replace("relu(q)^p", "another docstring") + "\n# a comment\n") == entry.source_hash
    assert hash_of(MINE.replace('title="Mine"', 'title="Ours"')) == entry.source_hash
    assert hash_of(MINE.replace("2.0", "2.5")) != entry.source_hash
    mine.write_text("")
    assert attention_zoo.find(str(mine))[0] == entry, "the code that runs is the code that is recorded"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import nothing_like_this", "fails to import: ModuleNotFoundError: No module named 'nothing_like_this'"),
        ("x = (", "fails to import: SyntaxError"),
        ("x = 1", r"registers no attention: put @register\('name', title='...'\)"),
        (MINE.replace('"mine"', '"pola"'), "the name 'pola' is taken by a built-in"),
        (MINE.replace('"mine"', '"My Own"'), "lower-case letters, digits and _, not 'My Own'"),
        (MINE.replace("power: float = 2.0", "power: float"), "option 'power' needs a type of int, float, bool, str"),
        (MINE.replace("power: float = 2.0", "power=2.0"), "option 'power' needs a type of int, float, bool, str"),
        (MINE + MINE.replace('"mine"', '"second"'), "registers mine, second: choose one with"),
        (MINE + MINE.replace("MyAttention", "Other"), "the name 'mine' is taken by MyAttention in the same file"),
        (MINE.replace("power: float = 2.0", "power: int | None = None"), "option 'power' needs a type of int"),
        (
            MINE.replace("*, power", "power"),
            r"option 'power' must be keyword-only: def __init__\(self, dims, \*, power",
        ),
        (MINE.replace(', title="Mine", cost="O(N)"', ""), r"bad.py: a mechanism needs a name and a title"),
        (
            "from attention_zoo import register\n@register\nclass A: ...",
            r"bad.py: a mechanism needs a name and a title",
        ),
        ("from attention_zoo import register\n@register('a', title='A')\nclass A: ...", "A must extend QKVAttention"),
        ("raise SystemExit('bye')", "fails to import: SystemExit: bye"),
    ],
)
def test_bad_file(tmp_path, text, message):
    path = tmp_path / "bad.py"
    path.write_text(text)
    with pytest.raises(SpecError, match=message) as caught:
        attention_zoo.find(str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("pla", r"unknown attention 'pla', did you mean 'pola'\?"),
        ("nowhere/mine.py", "no attention file at nowhere/mine.py"),
        ("pola:conv=-2000000", r"attention pola: conv must lie within ±1,000,000, not -2000000"),
        ("pola:alpa=3", r"attention pola has no option 'alpa', did you mean 'alpha'\?; it has: alpha, conv"),
        ("pola:alpha=big", "alpha must be of type float, not 'big'"),
        ("pola:alpha", "alpha must be of type float"),
        ("pola:alpha=3,alpha=5", "attention pola: alpha is given twice"),
        ("flatten:power=2.5", "power must be of type int, not '2.5'"),
        ("agent:bias=maybe", "bias must be true or false, not 'maybe'"),
    ],
)
def test_bad_spec(spec, message):
    with pytest.raises(SpecError, match=message):
        attention_zoo.find(spec)


@pytest.mark.parametrize(
    ("spec", "sizes", "message"),
    [
        ("softmax:conv=4", {}, "conv=4: the number of taps must be odd and positive"),
        ("agent:agents=10", {"length": 12, "grid": (3, 4)}, "agents=10: must be positive, and a square on a grid"),
        ("pola", {"dim": 6}, "head width must be even"),
        ("pola:alpha=-1", {}, "alpha=-1.0: must be at least 0"),
        ("pola:alpha=inf", {}, "alpha must be a finite number, not 'inf'"),
        ("sinkhorn:temperature=nan", {}, "temperature must be a finite number, not 'nan'"),
        ("flatten:power=0", {}, "power=0: must be at least 1"),
    ],
)
def test_sizes_a_mechanism_refuses(spec, sizes, message):
    from lra.testing import build_attention

    with pytest.raises(SpecError, match=message):
        build_attention(spec, **({"dim": 8, "heads": 2, "length": 10} | sizes))


def test_builtin_text_and_class_agree():
    """What `ast` reads from a built-in file equals the attributes of its class."""
    from attention_zoo._options import options_of
    from attention_zoo._registry import _entries

    for name in attention_zoo.names():
        entry, _ = attention_zoo.find(name)
        assert options_of(entry.load()) == entry.options
        assert replace(_entries[entry.path, name], source=entry.source, source_hash=entry.source_hash) == entry


def test_a_hybrid_says_what_its_parts_say():
    """Every pair is official only if both parts are, and a control only if both are, on sequences and grids."""
    entries = {name: attention_zoo.find(name)[0] for name in attention_zoo.names()}
    for pair in itertools.product(entries.values(), repeat=2):
        names = "+".join(entry.name for entry in pair)
        hybrid, _ = attention_zoo.find(names)
        for grid in (False, True):
            parts = [entry.fidelity(grid) for entry in pair]
            assert (hybrid.fidelity(grid) == "official") == (set(parts) == {"official"}), names
            for part in parts:
                assert part == "official" or part.removeprefix("adapted: ") in hybrid.fidelity(grid)
        assert hybrid.control == all(entry.control for entry in pair)
        assert (hybrid.padding == "fixed") == any(entry.padding == "fixed" for entry in pair)
        assert hybrid.title == " + ".join(entry.title for entry in pair)
        assert {entry.paper for entry in pair} - {""} == {*hybrid.paper.split(", ")} - {""}
        assert all(entry.cost in hybrid.cost for entry in pair)


def test_controls_are_declared():
    controls = [name for name in attention_zoo.names() if attention_zoo.find(name)[0].control]
    assert controls == ["identity", "local_conv", "mean"]


def test_titles_and_controls_reach_the_record(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(MINE.replace('title="Mine"', 'title="Mine & yours", control=True'))
    entry, _ = attention_zoo.find(str(path))
    assert (entry.title, entry.control, entry.fidelity()) == ("Mine & yours", True, "user's")
    (record,) = run_grid(asked(tmp_path / "runs", attentions=[str(path)]))
    assert (record.attention["title"], record.attention["control"]) == ("Mine & yours", True)


def test_options_equal_to_defaults_are_the_plain_row():
    entry, options = attention_zoo.find("pola:alpha=3")
    assert entry.row(options) == "pola"
    assert entry.row({"alpha": 5.0, "conv": 0}) == entry.row({"conv": 0, "alpha": 5.0}) == "pola:alpha=5.0,conv=0"


SHARED = """
from attention_zoo import QKVAttention, register, softmax_attention
from attention_zoo._parts import zero_padding
"""


def test_the_hash_of_a_built_in_covers_what_it_imports(monkeypatch):
    """It does not cover the code that finds and lists mechanisms. A user's file is covered in the same way."""
    names = attention_zoo.names()
    before = {name: attention_zoo.find(name)[0].source_hash for name in names}

    def changed(edited):
        def read(path):
            return _source.read(path) + "\nEDITED = True\n" * (path.name == edited)

        with monkeypatch.context() as patch:
            patch.setattr(_source, "read_zoo", read)
            return {name for name in names if attention_zoo.find(name)[0].source_hash != before[name]}

    assert changed("_parts.py") == changed("_base.py") == changed("_dims.py") == set(names)
    assert {"local", "swin", "longformer"} <= changed("_windows.py") < set(names)
    assert changed("_registry.py") == changed("_entry.py") == changed("softmax.py") == set()
    files = _source.closure(
        ["mine"],
        lambda name: Path("mine.py") if name == "mine" else _source.find_in_zoo(name),
        lambda path: SHARED if path == Path("mine.py") else _source.read_zoo(path),
    )
    shared = {"_base.py", "_dims.py", "_parts.py", "_kernels.py", "_convolution.py"}
    assert {path.name for path in files} == {"mine.py", *shared}


def test_the_hash_does_not_depend_on_where_the_file_lies(tmp_path):
    """The file may be in the checkout, above it, or elsewhere."""

    def hash_at(folder):
        path = folder / "mine.py"
        files = _source.closure(
            ["mine"],
            lambda name: path if name == "mine" else _source.find_in_zoo(name),
            lambda file: MINE if file == path else _source.read_zoo(file),
        )
        texts = {file: MINE if file == path else _source.read_zoo(file) for file in files}
        return _plugin._describe(path, texts.__getitem__, files, [], []).source_hash

    checkout = _source.HERE.parent
    assert len({hash_at(folder) for folder in (tmp_path, checkout, checkout.parent, checkout / "results")}) == 1


def test_the_hash_is_the_same_in_every_version_of_python():
    """Unlike the results of ast.dump and ast.unparse."""
    text = (
        "import x\n\n\ndef f(a, /, b=1, *c, d: int | None = None, **e) -> str:\n    return f\"{a!r:>{b}} {'x'}\" 'y'\n"
    )
    assert _source.hash_of([("", text)]) == "72a6d584d78c"
    assert _source.hash_of([("", text.replace("b=1", "b=True"))]) != _source.hash_of([("", text)])


def test_the_program_beside_a_file_is_no_part_of_it(tmp_path, monkeypatch):
    """A file beside run_lra.py, the first to import torch: that imports multiprocessing, which enters the program."""
    (tmp_path / "run_lra.py").touch()
    monkeypatch.setitem(sys.modules, "__mp_main__", sys)  # so that it is taken back at the end
    del sys.modules["__mp_main__"]
    path = tmp_path / "odd.py"
    path.write_text(
        "import sys, types\n"
        "program = sys.modules['__mp_main__'] = types.ModuleType('__mp_main__')\n"
        f"program.__file__ = {str(tmp_path / 'run_lra.py')!r}\n" + MINIMAL_ODD
    )
    entry, _ = attention_zoo.find(str(path))
    assert entry.beside == {}
    assert "__mp_main__" in sys.modules


def test_a_module_whose_file_is_none(tmp_path):
    """Like torch._classes, whose `__file__` names no file: a user's file may import such a module."""
    path = tmp_path / "odd.py"
    path.write_text(
        "import sys, types\n"
        "for number, name in enumerate(('_odd_classes.py', '/gone/_odd_classes.py', 5)):\n"
        "    module = sys.modules[f'_odd_classes{number}'] = types.ModuleType(f'_odd_classes{number}')\n"
        "    module.__file__ = name\n"
        "    module.__path__ = ['.']\n"
        "    sys.path.append('.')\n" + MINIMAL_ODD
    )
    try:
        entry, _ = attention_zoo.find(str(path))
    finally:
        for name in [name for name in sys.modules if name.startswith("_odd_classes")]:
            del sys.modules[name]  # hypothesis reads the file of every module
    assert entry.name == "odd"


MINIMAL_ODD = """
from attention_zoo import QKVAttention, register

@register("odd", title="Odd")
class Odd(QKVAttention):
    def attend(self, q, k, v, keep=None):
        return v
"""


def test_a_built_in_may_say_control():
    """The decorator's control=True works as in a user's file."""
    text = "@register('zzz', title='Z', control=True)\nclass Z(QKVAttention):\n    pass\n"
    assert _registry._described("zzz", text, _source.read_zoo).control
