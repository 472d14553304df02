"""A disk that fills up, or a folder that becomes read-only, while a run saves: one line, and no loss."""

import contextlib
import os
import resource
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from computed import computed_in

from lra.cli import main
from lra.results.record import load
from lra.training.loop import Trainer

NOBODY = 65534  # the user that root becomes in tests, since root may write everywhere
COMMAND = [
    "--task",
    "listops",
    "--device",
    "cpu",
    "--set",
    "train.gear=eager",
    "train.evaluate_every=10",
    "train.steps=40",
]


def command(tiny: str, out: Path, *attentions: str) -> list[str]:
    return ["--attn", *attentions, "--protocol", tiny, "--out", str(out), *COMMAND]


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The records of undisturbed runs."""
    out = tmp_path_factory.mktemp("calm")
    assert main(command(str(Path(__file__).parents[1] / "tiny.yaml"), out, "elu", "relu")) == 0
    return computed_in(out)


@pytest.fixture
def out() -> Iterator[Path]:
    """A folder that other users may enter, unlike those of pytest."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder / "runs"
    shutil.rmtree(folder)


@contextlib.contextmanager
def no_file_above(size: int) -> Iterator[None]:
    """In place of a full disk: a file that grows beyond `size` bytes raises OSError, File too large."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextlib.contextmanager
def read_only(out: Path) -> Iterator[None]:
    folders = [out, out / "work", *out.glob("work/*")]
    for folder in folders:
        folder.chmod(0o555)
    root = os.geteuid() == 0
    if root:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)
        for folder in folders:
            folder.chmod(0o755)


def disturb(monkeypatch, begin: Callable[[], contextlib.AbstractContextManager[None]]) -> contextlib.ExitStack:
    """Enters the context of `begin` after step 20 of the second run, until the returned stack is closed."""
    stack, evaluate, runs = contextlib.ExitStack(), Trainer.evaluate, []

    def evaluating(self: Trainer) -> None:
        evaluate(self)
        runs.append(self.progress.step)
        if runs.count(20) == 2 and self.progress.step == 20:
            stack.enter_context(begin())

    monkeypatch.setattr(Trainer, "evaluate", evaluating)
    return stack


def test_a_disk_fills_up_in_a_checkpoint(tiny, out, calm, monkeypatch, capfd):
    """The record of the failure fits. The run resumes from the previous checkpoint, to the same results."""
    with disturb(monkeypatch, lambda: no_file_above(12_000)):
        assert main(command(tiny, out, "elu", "relu")) == 1
    (failed,) = (path for path in out.glob("*.json") if load(path).status == "failed")
    work = out / "work" / failed.stem
    line = f"cannot write {work / 'resume.pt'}: File too large; mend that, and the same command goes on from the last"
    assert load(failed).reason.startswith(f"WorkError: {line}")
    assert line in capfd.readouterr().err
    assert [path.name for path in work.glob("*resume*")] == ["resume-before.pt"]
    finished = {path: path.read_bytes() for path in out.glob("*.json") if path != failed}
    assert main(command(tiny, out, "elu", "relu")) == 0
    assert "relu seed 0: step 10/40" not in capfd.readouterr().err, "it goes on from there"
    assert computed_in(out) == calm
    assert all(path.read_bytes() == content for path, content in finished.items())
    assert not list(out.glob("work/*/*resume*"))


@pytest.mark.parametrize("kind", ["full", "read-only"])
def test_nothing_can_be_written(kind, tiny, out, calm, monkeypatch, capfd):
    """Not even a record can be written: one line, and exit code 2."""
    begin = (lambda: no_file_above(0)) if kind == "full" else (lambda: read_only(out))
    with disturb(monkeypatch, begin), capfd.disabled():  # pytest's capture would write to a file, too
        code, said = said_by(command(tiny, out, "elu", "relu"))
    assert code == 2
    last = said.splitlines()[-1]
    assert last.startswith(f"error: cannot write {out}/listops-relu-")
    assert last.endswith("; mend that and run the same command again")
    assert len(list(out.glob("*.json"))) == 1
    assert main(command(tiny, out, "elu", "relu")) == 0
    assert computed_in(out) == calm
    assert not [path for path in out.rglob("*") if path.name.endswith(".tmp")]


def said_by(words: list[str]) -> tuple[int, str]:
    """The exit code of the command, and its stderr, kept in memory."""
    import io

    with contextlib.redirect_stderr(io.StringIO()) as said:
        return main(words), said.getvalue()
