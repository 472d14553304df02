"""Any words on the command line or in a protocol end with exit code 0, or 2 and one line: no traceback, no hang."""

import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from lra.cli import is_users, main
from lra.config.protocol import parse_override
from lra.errors import UserError
from lra.experiments.plan import Request, parse_devices, plan
from tasks.image.task import _picture

MANY = int(os.environ.get("LRA_FUZZ", "1"))  # factor on the number of examples
RUN = ["--attn", "elu", "--task", "listops", "--protocol", "quick"]
WORDS = {
    "an attention of nobody's": ["--attn", "~nouser/x.py", "--task", "listops"],
    "a task of nobody's": ["--attn", "elu", "--task", "~nouser/x.py"],
    "a protocol of nobody's": ["--attn", "elu", "--task", "listops", "--protocol", "~nouser/x.yaml"],
    "an output folder of nobody's": [*RUN, "--out", "~nouser"],
    "no output folder": [*RUN, "--out", ""],
    "no folder of data": [*RUN, "--data-dir", ""],
    "a long attention": ["--attn", "x" * 300, "--task", "listops"],
    "a long attention's file": ["--attn", f"{'x' * 300}.py", "--task", "listops"],
    "a long task": ["--attn", "elu", "--task", "x" * 300],
    "a long task's file": ["--attn", "elu", "--task", f"{'x' * 300}.py"],
    "a long protocol's file": ["--attn", "elu", "--task", "listops", "--protocol", f"{'x' * 300}.yaml"],
    "a long protocol": ["--attn", "elu", "--task", "listops", "--protocol", "x" * 300],
    "a long output folder": [*RUN, "--out", "x" * 300],
    "a NUL in an attention": ["--attn", "a\0.py", "--task", "listops"],
    "a NUL in a task": ["--attn", "elu", "--task", "a\0.py"],
    "a NUL in a protocol": ["--attn", "elu", "--task", "listops", "--protocol", "a\0.yaml"],
    "a NUL in an output folder": [*RUN, "--out", "a\0"],
    "a device as a protocol": ["--attn", "elu", "--task", "listops", "--protocol", "/dev/../dev/zero.yaml"],
    "a huge seed": [*RUN, "--seed", "9" * 30],
    "many processes": [*RUN, "--processes", "9" * 30],
    "many devices": [*RUN, "--devices", "0-99999999999"],
    "a device beyond all": [*RUN, "--devices", "cuda:" + "9" * 5000],
    "many taps": ["--attn", "softmax:conv=99999999999999999999", "--task", "listops"],
    "many digits": ["--attn", "softmax:conv=" + "9" * 5000, "--task", "listops"],
    "many stages": ["--attn", "softmax*99999999999+elu", "--task", "listops"],
    "a report of nothing": ["report", ""],
    "a report to nowhere": ["report", "--out", "~nouser"],
    "the status of nothing": ["status", ""],
    "the status of a long name": ["status", "x" * 300],
    "to cite a long name": ["cite", "x" * 300],
    "a pair with a long name": ["report", "--pair", "x" * 300, "y"],
    "a folder as a page": ["list", "--page", "."],
    "a folder as another page": ["protocol", "keys", "--page", "."],
    "a folder as a job script": [*RUN, "--engine", "slurm", "--emit", "."],
    "a folder as an archive": ["data", "pack", "--task", "listops", "--file", "."],
    "a folder to unpack": ["data", "unpack", "--file", "."],
    "a folder for tables": ["report", "--into", "."],
}
VALUES = ("x=[[[[", "model.layers=" + "[" * 5000, "data.test_rows=", "data.seed=", "train.schedule=", "model.grid=",
          "model.grid=null", "model.vocab=1000000000", "model.dim=9223372036854775808", "model.layers=2147483648",
          "model.layers=1024 model.dim=100000", "train.steps=1e400", "train.lr=.inf", "train.lr=.nan", "a.b.c.d=1",
          "train.batch=" + "9" * 5000, "train={a: [}", "train.lr=!!python/object:os.system {}",
          "model.backbone=~nouser/x.py",
          "model.backbone=" + "x" * 300 + ".py", "data.test_rows=99999999999999999999")  # fmt: skip


@pytest.mark.parametrize("words", WORDS.values(), ids=WORDS)
def test_one_line_and_exit_code_2(words: list[str], capsys, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert len(error) < 1000
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.parametrize("values", VALUES, ids=lambda values: values[:30])
def test_values_of_set(values: str, capsys, tmp_path: Path):
    assert main([*RUN, "--out", str(tmp_path / "out"), "--set", *values.split(" ")]) == 2
    *before, last = capsys.readouterr().err.splitlines()
    assert last.startswith("error: ")
    assert len(before) <= ("backbone" in values)  # the line before names the check that a user's backbone fails


@pytest.mark.parametrize("name", ["LRA_CACHE", "LRA_DATA"])
@pytest.mark.parametrize("value", ["~nouser/x", "x" * 300])
def test_variables(name: str, value: str, capsys, monkeypatch, tmp_path: Path):
    monkeypatch.setenv(name, value)
    words = ["data", "status", "--task", "listops"] if name == "LRA_CACHE" else [*RUN, "--out", str(tmp_path)]
    assert main(words) == 2
    assert f"{name}" in capsys.readouterr().err


def error_of(act: Callable[[], object]) -> Exception | None:
    try:
        act()
    except Exception as error:
        return error
    return None


def one_line_or_none(act: Callable[[], object]) -> None:
    """Calls `act`, which must succeed or raise an error that the command line prints as one line."""
    error = error_of(act)
    assert error is None or is_users(error), error
    assert len(" ".join(str(error).split())) < 3000


def planned(protocol: str = "quick", attention: str = "elu", *overrides: str) -> None:
    plan(Request(attentions=[attention], tasks=["listops"], seeds=[0], protocol=protocol, overrides=overrides))


KEYS = st.sampled_from(["train.lr", "train.steps", "model.layers", "model.dim", "model.positions", "data.seed",
                        "data.max_length", "train.batch", "model.grid", "model.backbone", "train.gear"])  # fmt: skip
TEXT = st.text(st.characters(codec="utf-8"), max_size=30)
ODD = st.sampled_from(
    ["", "-1", "0", "1e400", "nan", "[1]", "{a: 1}", "~", "true", "&a [*a]", "9" * 40, "!!set {a}", "'"]
)
QUIET = settings(max_examples=25 * MANY, deadline=None, derandomize=MANY == 1,
                 suppress_health_check=[HealthCheck.function_scoped_fixture])  # fmt: skip


@QUIET
@given(key=KEYS | TEXT, value=ODD | TEXT)
@example("model.layers", "&a [*a]")
def test_fuzzed_values(key: str, value: str):
    one_line_or_none(lambda: planned("quick", "elu", f"{key}={value}"))


@QUIET
@given(spec=TEXT | st.builds("{}:{}={}".format, st.sampled_from(["pola", "softmax", "agent"]), TEXT, ODD))
def test_fuzzed_specs(spec: str):
    one_line_or_none(lambda: planned("quick", spec))


@QUIET
@given(text=st.recursive(ODD | TEXT, lambda inner: st.lists(inner, max_size=3).map(str)))
def test_fuzzed_devices(text: str):
    one_line_or_none(lambda: parse_devices(text))
    one_line_or_none(lambda: parse_override(text))


PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | TEXT
SECTION = st.dictionaries(st.sampled_from(["lr", "steps", "layers", "dim", "seed", "batch"]) | TEXT, PLAIN, max_size=3)
PROTOCOL = st.dictionaries(
    st.sampled_from(["base", "model", "train", "data", "tasks", "deviations"]),
    PLAIN | SECTION | st.dictionaries(st.just("listops"), PLAIN | SECTION) | st.just("quick"),
)


@QUIET
@given(content=PROTOCOL, flip=st.none() | st.tuples(st.integers(0, 400), st.integers(0, 255)))
def test_fuzzed_protocols(content: dict, flip: tuple[int, int] | None, tmp_path: Path):
    import yaml

    written = bytearray(yaml.safe_dump({"base": "quick"} | content, allow_unicode=True).encode())
    if flip:
        written[flip[0] % len(written)] = flip[1]
    path = tmp_path / "fuzzed.yaml"
    path.write_bytes(written)
    one_line_or_none(lambda: planned(str(path)))


def test_protocols_that_explode_or_wait(tmp_path: Path):
    bomb = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 60))
    (tmp_path / "undefined.yaml").write_text("base: quick\nmodel:\n  layers: *a59\n")
    (tmp_path / "bomb.yaml").write_text("tasks:\n" + "".join(f"  {line}\n" for line in bomb.splitlines()))
    (tmp_path / "deep.yaml").write_text("model: " + "[" * 100_000)
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "zero.yaml").symlink_to("/dev/zero")
    for path in sorted(tmp_path.iterdir()):
        with pytest.raises(UserError, match=r"^protocol file [^\n]*$"):
            planned(str(path))


def test_a_picture_of_any_size_is_refused_before_it_is_decoded():
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    import numpy as np

    for side in (5_000, 12_000, 20_000):
        header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
        picture = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
        assert _picture(picture, np.empty((32, 32, 3), np.uint8))
