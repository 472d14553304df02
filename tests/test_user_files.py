"""Users' files side by side in one process: each has its own modules, and leaves the process as it was."""

import os
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from asking import asked, run_grid

import attention_zoo
from attention_zoo import Dims, SpecError, _process

PLAIN = """
from attention_zoo import QKVAttention, register


@register("{name}", title="Mine", cost="O(N)")
class Mine(QKVAttention):
    def attend(self, q, k, v, keep=None):
        return v * SCALE
"""
SIZES = Dims(dim=8, heads=2, length=6)


def write(folder: Path, text: str, name: str = "mine", **others: str) -> str:
    """Writes a user's file that starts with `text`, and others beside it: a__b is a/b.py -> its path."""
    for other, content in others.items():
        path = folder / f"{other.replace('__', '/', 1) if other.count('__') == 1 else other}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.py").write_text(text + PLAIN.format(name=name))
    return str(folder / f"{name}.py")


def scale(spec: str) -> float:
    """The factor by which the file's attention multiplies v."""
    attention = attention_zoo.find(spec)[0].build(SIZES)
    v = torch.ones(1, 2, 6, 4)
    return float(attention.get_submodule("").attend(v, v, v)[0, 0, 0, 0])  # pyright: ignore[reportCallIssue]


def source_hash(spec: str) -> str:
    return attention_zoo.find(spec)[0].source_hash


IMPORTS = {
    "a module": ("from kernel import SCALE", "kernel"),
    "a module by its name": ("import kernel\nSCALE = kernel.SCALE", "kernel"),
    "under another name": ("import kernel as other\nSCALE = other.SCALE", "kernel"),
    "all of it": ("from kernel import *", "kernel"),
    "a module of a package": ("import parts.kernel\nSCALE = parts.kernel.SCALE", "parts__kernel"),
    "one of a package under another name": ("import parts.kernel as other\nSCALE = other.SCALE", "parts__kernel"),
    "out of a package": ("from parts.kernel import SCALE", "parts__kernel"),
    "by a call": ("import importlib\nSCALE = importlib.import_module('kernel').SCALE", "kernel"),
    "by a name put together": ("import importlib\nSCALE = importlib.import_module('ker' + 'nel').SCALE", "kernel"),
    "from a folder put on sys.path": (
        "import sys\nfrom pathlib import Path\nsys.path.append(str(Path(__file__).parent / 'lib'))\n"
        "from kernel import SCALE",
        "lib__kernel",
    ),
    "later": (
        "class Later:\n    def __rmul__(self, v):\n        from kernel import SCALE\n        return v * SCALE\n\n\n"
        "SCALE = Later()",
        "kernel",
    ),
    "later, by a call": (
        "import importlib\n\n\nclass Later:\n    def __rmul__(self, v):\n"
        "        return v * importlib.import_module('parts.kernel').SCALE\n\n\nSCALE = Later()",
        "parts__kernel",
    ),
}  # fmt: skip


@pytest.mark.parametrize("how", IMPORTS)
def test_two_folders_may_have_a_module_of_one_name(how, tmp_path):
    text, other = IMPORTS[how]
    specs = [
        write(tmp_path / folder, text, **{other: f"SCALE = {value}.0\n"}) for folder, value in (("a", 2), ("b", 3))
    ]
    hashes = [source_hash(spec) for spec in specs]
    assert [scale(spec) for spec in (*specs, *specs)] == [2.0, 3.0, 2.0, 3.0]
    assert len(set(hashes)) == 2
    moved = shutil.copytree(tmp_path / "a", tmp_path / "c")
    assert source_hash(str(moved / "mine.py")) == hashes[0], "where a folder is does not matter"
    entry, _ = attention_zoo.find(specs[0])
    assert list(entry.beside.values()) == ["SCALE = 2.0\n"]


def test_modules_of_a_package_may_import_each_other(tmp_path):
    spec = write(
        tmp_path,
        "import parts.sums\nfrom parts import SCALE",
        parts____init__="",
        parts__sums="from kernel import TWO\nfrom parts.more import ONE\nSUM = ONE + TWO\n",
        parts__more="from . import one\nONE = one.ONE\n",
        parts__one="ONE = 1.0\n",
        kernel="TWO = 2.0\n",
    )
    (tmp_path / "parts" / "__init__.py").write_text("from .sums import SUM as SCALE\n")
    assert scale(spec) == 3.0
    assert sorted(attention_zoo.find(spec)[0].beside) == [
        "kernel.py", "parts/__init__.py", "parts/more.py", "parts/one.py", "parts/sums.py"
    ]  # fmt: skip


def test_files_of_one_folder_share_its_modules(tmp_path):
    kernel = "SCALE = 2.0\nLOADS = []\n"
    first = write(tmp_path, "import kernel\nfrom kernel import SCALE\nkernel.LOADS.append(1)", "first", kernel=kernel)
    text = "import first\nimport kernel\nSCALE = 10.0 * first.SCALE + len(kernel.LOADS)"
    second = write(tmp_path, text, "second")
    assert scale(second) == 21.0
    assert scale(first) == 2.0
    assert source_hash(first)
    assert source_hash(first) != source_hash(second)


def test_an_installed_package_is_not_a_folder_of_its_name(tmp_path):
    for name in ("torch", "attention_zoo", "tasks"):
        (tmp_path / name).mkdir()
    (tmp_path / "attention_zoo" / "__init__.py").write_text("raise ValueError('the wrong one')\n")
    assert scale(write(tmp_path, "import torch\nSCALE = float(torch.ones(1))")) == 1.0


EDITS = {
    "a module beside it": ("from kernel import SCALE", "kernel.py", "SCALE = 2.0", "SCALE = 3.0"),
    "a module of a package": ("from parts.kernel import SCALE", "parts/kernel.py", "SCALE = 2.0", "SCALE = 3.0"),
    "what a package runs": ("from parts.kernel import SCALE", "parts/__init__.py", "a = 1", "a = 2"),
    "an import of an import": ("from kernel import SCALE", "deeper.py", "SCALE = 2.0", "SCALE = 3.0"),
    "a decorator": ("SCALE = 2.0", "mine.py", "@register", "@(lambda cls: cls)\n@register"),
    "code below": ("SCALE = 2.0", "mine.py", "* SCALE\n", "* SCALE\n\n\nSCALE = 3.0\n"),
    "data read by Python": ("with open(DATA) as file:\n    SCALE = float(file.read())", "data.txt", "2.0", "3.0"),
    "data read by numpy": ("import numpy\nSCALE = float(numpy.loadtxt(DATA))", "data.txt", "2.0", "3.0"),
    "data read by a module beside it": ("from reading import SCALE", "data.txt", "2.0", "3.0"),
    "data named for later": ("NAME = 'data.txt'\nSCALE = 1.0", "data.txt", "2.0", "3.0"),
}


@pytest.mark.parametrize("what", EDITS)
def test_an_edit_is_another_identity(what, tmp_path):
    text, file, before, after = EDITS[what]
    first = "from pathlib import Path\nDATA = Path(__file__).parent / ('data' + '.txt')\n"
    write(
        tmp_path / "a",
        first + text,
        parts____init__="",
        parts__kernel="SCALE = 2.0\n",
        kernel="from deeper import SCALE\n" if "import of" in what else "SCALE = 2.0\n",
        deeper="SCALE = 2.0\n",
        reading=first + "SCALE = float(DATA.read_text())\n",
    )
    (tmp_path / "a" / "parts" / "__init__.py").write_text("a = 1\n")
    (tmp_path / "a" / "data.txt").write_text("2.0\n")
    edited, same = (shutil.copytree(tmp_path / "a", tmp_path / name) for name in ("edited", "same"))
    content = (edited / file).read_text()
    assert before in content
    (edited / file).write_text(content.replace(before, after))
    spec = str(tmp_path / "a" / "mine.py")
    assert source_hash(str(same / "mine.py")) == source_hash(spec)
    assert source_hash(str(edited / "mine.py")) != source_hash(spec)
    assert attention_zoo.find(spec)[0].data.keys() == ({"data.txt"} if "data" in what else set())


def test_what_else_lies_there_is_not_its_identity(tmp_path):
    specs = [write(tmp_path / name, "import json\nSCALE = 1.0", kernel=f"SCALE = {name!r}\n") for name in ("a", "b")]
    assert source_hash(specs[0]) == source_hash(specs[1])


def test_a_constructor_reads_no_data_unseen(tmp_path):
    text = PLAIN.format(name="mine").replace(
        "    def attend",
        "    def __init__(self, dims):\n        super().__init__(dims)\n"
        "        self.scale = float((Path(__file__).parent / ('data' + '.txt')).read_text())\n\n    def attend",
    )
    (tmp_path / "mine.py").write_text("from pathlib import Path\nSCALE = 1.0\n" + text)
    (tmp_path / "data.txt").write_text("2.0\n")
    with pytest.raises(SpecError, match=r"mine: it reads data.txt in its constructor, where an edit goes unseen: read"):
        scale(str(tmp_path / "mine.py"))


CHANGES = {
    "torch.set_default_dtype(torch.float64)": "the default dtype",
    "torch.set_default_device('meta')": "the default device",
    "torch.manual_seed(1)": "torch's seed",
    "import random; random.seed(1)": "Python's random numbers",
    "import numpy; numpy.random.seed(1)": "numpy's random numbers",
    "torch.set_num_threads(torch.get_num_threads() + 1)": "the number of threads",
    "torch.use_deterministic_algorithms(True)": "deterministic algorithms",
    "torch.set_float32_matmul_precision('medium')": "the precision of matrix products",
    "torch.backends.cuda.matmul.allow_tf32 = True": "the precision of matrix products",
    "torch.backends.cuda.matmul.fp32_precision = 'tf32'": "the precision of matrix products",
    "torch.backends.cudnn.conv.fp32_precision = 'ieee'": "the precision of convolutions",
    "torch.set_grad_enabled(False)": "whether gradients are computed",
    "torch.autograd.set_detect_anomaly(True)": "anomaly detection",
    "torch.backends.cudnn.benchmark = True": "cudnn.benchmark",
    "torch.backends.cuda.enable_flash_sdp(False)": "flash attention",
    "import sys; sys.path.append('nowhere')": "sys.path",
    "import warnings; warnings.simplefilter('ignore')": "",
}


@pytest.mark.filterwarnings("ignore:Anomaly Detection")
@pytest.mark.parametrize("statement", CHANGES)
def test_what_a_file_sets_for_the_process_is_taken_back(statement, tmp_path):
    import sys
    import warnings

    def look():
        held = _process.look(), torch.get_rng_state().tolist(), random.getstate(), str(np.random.get_state())
        return *held, sys.path[:], warnings.filters[:]

    before = look()
    notes = attention_zoo.find(write(tmp_path, f"import torch\n{statement}\nSCALE = 1.0"))[0].notes
    assert look() == before
    name = CHANGES[statement]
    assert len(notes) == bool(name)
    assert all(f"mine.py changes {name} when it is imported; this is taken back" in note for note in notes)


def test_numbers_drawn_at_import_are_the_same_in_every_process(tmp_path):
    draw = "import random\nimport numpy\nimport torch\nSCALE = random.random() + numpy.random.rand() + torch.rand(())"
    scales = []
    for folder in ("a", "b"):
        random.seed(folder)
        np.random.seed(len(scales))
        torch.manual_seed(len(scales))
        scales.append(scale(write(tmp_path / folder, draw)))
    assert scales[0] == scales[1]


def test_numbers_drawn_by_a_shared_module_do_not_depend_on_who_came_first(tmp_path):
    draw = "import random\nSCALE = random.random()\n"
    scales, hashes = [], []
    for folder, count in (("a", 1), ("b", 2)):
        other = write(
            tmp_path / folder, "import random\nrandom.random()\nfrom kernel import SCALE", "other", kernel=draw
        )
        mine = write(tmp_path / folder, "from kernel import SCALE")
        specs = [other, mine][-count:]
        scales.append([scale(spec) for spec in specs][-1])
        hashes.append(source_hash(mine))
    assert scales[0] == scales[1]
    assert hashes[0] == hashes[1]


def test_data_of_another_file_are_not_read_through_a_shared_module(tmp_path):
    kernel = (
        "from pathlib import Path\nload = lambda name: float((Path(__file__).parent / (name + '.txt')).read_text())\n"
    )
    for name, value in (("first", "1.0"), ("second", "2.0")):
        spec = write(tmp_path, f"import kernel\nSCALE = kernel.load({name!r})", name, kernel=kernel)
        (tmp_path / f"{name}.txt").write_text(value)
        assert scale(spec) == float(value)
        assert attention_zoo.find(spec)[0].data.keys() == {f"{name}.txt"}


def test_a_byte_order_mark_and_other_encodings(tmp_path):
    text = "SCALE = 2.0  # é" + PLAIN.format(name="mine")
    for name, content in (
        ("mark", text.encode("utf-8-sig")),
        ("latin", f"# coding: latin-1\n{text}".encode("latin-1")),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "mine.py").write_bytes(content)
        assert scale(str(tmp_path / name / "mine.py")) == 2.0
        assert "é" in attention_zoo.find(str(tmp_path / name / "mine.py"))[0].source


@pytest.mark.parametrize(
    ("statement", "better"),
    [
        ("from .kernel import SCALE", "from kernel import SCALE"),
        ("from . import kernel", "import kernel"),
        ("from ..a.kernel import SCALE", "from a.kernel import SCALE"),
    ],
)
def test_a_relative_import_is_told_what_to_write(statement, better, tmp_path):
    spec = write(tmp_path, statement, kernel="SCALE = 2.0\n")
    with pytest.raises(SpecError) as caught:
        attention_zoo.find(spec)
    assert f"write `{better}`, not `{statement}`" in str(caught.value)
    assert "\n" not in str(caught.value)
    fallback = f"try:\n    {statement}\nexcept ImportError:\n    SCALE = 5.0"
    assert scale(write(tmp_path / "other", fallback, kernel="SCALE = 2.0\n")) == 5.0


def test_a_file_that_was_mended_is_read_again(tmp_path):
    spec = write(tmp_path, "from kernel import SCALE", kernel="SCALE = 1 / 0\n")
    with pytest.raises(SpecError, match="ZeroDivisionError"):
        attention_zoo.find(spec)
    (tmp_path / "kernel.py").write_text("SCALE = 4.0\n")
    assert scale(spec) == 4.0
    (tmp_path / "other.py").write_text("x = 1\n")
    with pytest.raises(SpecError, match="registers no attention"):
        attention_zoo.find(str(tmp_path / "other.py"))
    (tmp_path / "other.py").write_text("SCALE = 6.0\n" + PLAIN.format(name="other"))
    assert scale(str(tmp_path / "other.py")) == 6.0


@pytest.mark.parametrize("name", ["my-own", "2nd", "my.own", "json"])
def test_a_file_may_have_any_name(name, tmp_path):
    path = tmp_path / f"{name}.py"
    path.write_text("import json\nSCALE = float(json.dumps(3))\n" + PLAIN.format(name="mine"))
    (tmp_path / "mine").mkdir()
    assert scale(str(path)) == 3.0


def test_a_folder_whose_name_is_no_utf_8(tmp_path):
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff"))
    assert scale(write(folder, "from kernel import SCALE", kernel="SCALE = 2.0\n")) == 2.0


def test_the_record_keeps_what_a_run_is_made_of(tmp_path, capsys):
    text = "import torch\nfrom kernel import SCALE\ntorch.manual_seed(1)\nDATA = 'data.txt'"
    (tmp_path / "data.txt").write_text("1\n")
    spec = write(tmp_path, text, kernel="SCALE = 2.0\n")
    (record,) = run_grid(asked(tmp_path / "runs", attentions=[spec]))
    assert record.status == "done"
    assert record.attention["beside"] == {"kernel.py": "SCALE = 2.0\n"}
    assert record.attention["reads"].keys() == {"data.txt"}
    assert "mine.py changes torch's seed when it is imported; this is taken back" in capsys.readouterr().err
