"""The command line: every mistake gives one line and exit code 2, and changes no file."""

import ast
import errno
import hashlib
import json
import os
import re
import subprocess
import sys
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from asking import asked, run_grid

from lra import cli
from lra.cli import main, parser_of
from lra.commands import NAMES
from lra.errors import UserError
from lra.experiments import job
from lra.results.record import load, save
from lra.training.cores import threads_per_process

ROOT = Path(__file__).parent.parent


def fingerprint(folder: Path) -> dict[str, str]:
    return {str(p): hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder with one finished record."""
    out = tmp_path_factory.mktemp("runs")
    tiny = str(Path(__file__).parent / "tiny.yaml")
    assert main(["--attn", "elu", "--task", "listops", "--protocol", tiny, "--out", str(out)]) == 0
    return out


def test_run_prints_the_table(runs, tiny, capsys):
    assert main(["run", "--attn", "elu", "--task", "listops", "--protocol", tiny, "--out", str(runs)]) == 0
    printed = capsys.readouterr()
    assert "| elu " in printed.out
    assert "best trivial" in printed.out
    assert "1 of 1 runs have a final record" in printed.err


def test_report(runs, tmp_path, capsys):
    assert main(["report", str(runs), "--out", str(tmp_path)]) == 0
    assert "| elu " in capsys.readouterr().out
    assert (tmp_path / "report.md").exists()
    assert list((tmp_path / "figures").glob("*-curves.png"))
    assert list((tmp_path / "figures").glob("*-curves.svg"))
    assert (tmp_path / "report.html").read_text().startswith("<!doctype html>")


def test_protocol_diff(capsys):
    assert main(["protocol", "diff", "nystromformer", "skyformer"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "train.clip: none -> value" in lines
    assert any("train.steps: 5000 -> 50000" in line for line in lines)
    assert main(["protocol", "diff", "standard", "standard"]) == 0
    assert capsys.readouterr().out == "no difference\n"
    assert main(["protocol", "diff", "standard", "skyformer"]) == 0
    assert "path256: only in standard" in capsys.readouterr().out
    assert main(["protocol", "diff", "standard", "pyramid"]) == 0, "whose backbones have other keys"
    lines = capsys.readouterr().out.splitlines()
    assert any("model.norm: " in line and line.endswith("-> -") for line in lines)
    assert any("model.stages: - -> " in line for line in lines)
    assert main(["protocol", "diff", "standard", "skyforme"]) == 2


def test_records_from_python(runs):
    import lra

    frame = lra.records([runs])
    assert list(frame["row"]) == ["elu"]
    (path,) = runs.glob("*.json")
    loaded = lra.load(path)
    assert loaded.config.train.steps == 60
    assert "blocks.0.attention.qkv.weight" in loaded.weights


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--attn", "pla", "--task", "listops"], "unknown attention 'pla', did you mean 'pola'?"),
        (["--attn", "pola", "--task", "listop"], "unknown task 'listop', did you mean 'listops'?"),
        (
            ["--attn", "pola", "--task", "listops", "--protocol", "quik"],
            "unknown protocol 'quik', did you mean 'quick'?",
        ),
        (["--attn", "pola:alpa=3", "--task", "listops"], "no option 'alpa', did you mean 'alpha'?"),
        (
            ["--attn", "pola", "--task", "listops", "--set", "train.lrr=3"],
            "unknown key train.lrr, did you mean 'train.lr'?",
        ),
        (["--attn", "pola", "--task", "listops", "--set", "train.lr=x"], "train.lr must be a number, as in"),
        (["--attn", "nowhere.py", "--task", "listops"], "no attention file at nowhere.py"),
        (["--attn", "pola", "--task", "listops", "--data-dir", "/nowhere"], "/nowhere is no folder"),
        (
            ["--attn", "pola", "--task", "listops", "--device", "gpu"],
            "'gpu' cannot be used here; there are: cpu",
        ),
        (["--attn", "pola"], "required: --task"),
        (["--task", "listops"], "required: --attn"),
        (
            ["--attn", "pola", "--task", "listops", "--seed", "0-2"],
            "takes numbers from 0, as in --seed 0 1 2, not '0-2'",
        ),
        (["report", "/nowhere"], "no records in /nowhere: no such file or folder; train some first"),
        (["repotr"], "unknown command 'repotr', did you mean 'report'?"),
        (["lst"], "did you mean 'list'?"),
        (["report", "--bseline", "elu"], "report has no option --bseline, did you mean '--baseline'?"),
        (["data", "prepare", "--task", "text", "--store", "x"], "data prepare does not take --store; it takes --task,"),
        (["data", "status", "--data-dir", "x"], "data status does not take --data-dir; it takes --task"),
        (["list", "--backbone", "pyramid"], "--backbone goes with --long: list --long --backbone pyramid"),
        (["list", "--page", "x", "--long"], "list --page does not take --long; it takes --page"),
        (["data", "status", "--accept-mirror"], "data status does not take --accept-mirror; it takes --task"),
        (["data", "verify", "--backbone", "flat"], "data verify does not take --backbone; it takes --task"),
        (["report", "--pair", "a", "b", "--out", "x"], "report --pair does not take --out; it takes --pair"),
        (["gpu", "--seeds", "2"], "gpu has no option --seeds, did you mean '--seed'?"),
        (["report", "--base", "elu"], "report has no option --base"),
        (["--atn", "pola", "--task", "listops"], "run has no option --atn, did you mean '--attn'?"),
        (["--attn", "pola", "--task", "listops", "--set", "lr=3"], "unknown key 'lr', did you mean 'train.lr'?"),
        (["--attn", "pola", "--task", "listops", "--seed", "-1"], "--seed: takes numbers from 0"),
        (["--attn", "pola", "--task", "listops", "--set", "step=3"], "unknown key 'step', did you mean 'train.steps'?"),
        (
            ["--attn", "pola", "--task", "listops", "--set", "train.lr=3e-4", "--set", "train.lr=1e-4"],
            "--set train.lr is given 2 times; give one value, or --sweep train.lr=A,B",
        ),
        (["--attn", "pola", "--task", "listops", "--device", "cpu", "--device", "mps"], "--device is given twice"),
        (["repotr"], "did you mean 'report'?"),
        (["data", "prepair"], "invalid choice 'prepair', did you mean 'prepare'?; there are prepare, status,"),
        (["data", "prepare", "--tsk", "text"], "data has no option --tsk, did you mean '--task'?"),
        (["--attn", "pola", "--task", "listops", "--jobs", "1", "--jobs", "2"], "--jobs is given twice"),
    ],
)
def test_mistakes(arguments, message, runs, tiny, capsys):
    before = fingerprint(runs)
    if arguments[0] == "--attn" and "--protocol" not in arguments:
        arguments = [*arguments, "--protocol", tiny, "--out", str(runs)]
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert message in printed.err
    assert printed.err.startswith("error: ")
    assert printed.err.count("\n") == 1
    assert printed.out == ""
    assert fingerprint(runs) == before


def test_words_of_an_option_given_again_are_added():
    parsed = parser_of("run").parse(
        ["--attn", "elu", "--attn", "pola", "--task", "listops", "--seed", "1", "2", "--seed", "3"]
    )
    assert (parsed.attn, parsed.seed, parsed.set) == (["elu", "pola"], [1, 2, 3], [])


def test_help_names_every_command_and_imports_one(capsys):
    """The overview reads the docstrings of commands; the help of a command imports only that command."""
    assert main(["--help"]) == 0
    printed = capsys.readouterr().out
    assert all(f"\n  {name} " in printed for name in NAMES)
    code = "import sys; from lra.cli import parser_of; parser_of('cite'); "
    code += "print(sorted(m for m in sys.modules if m.startswith('lra.')))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    shared = {"lra.cli", "lra.commands", "lra.commands.choice", "lra.commands.output", "lra.errors", "lra.signals"}
    shared |= {"lra.commands.parser", "lra.commands.streams"}
    assert {*ast.literal_eval(done.stdout)} == shared | {"lra.commands.cite"}


@pytest.mark.parametrize("name", NAMES)
def test_help_of_a_command(name, capsys):
    with pytest.raises(SystemExit) as end:
        main([name, "--help"])
    assert end.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: python run_lra.py {name}")


def compiler_cache(monkeypatch, cache: Path, temporary: Path) -> str:
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    monkeypatch.setenv("LRA_CACHE", str(cache))
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    cli.use_compiler_cache()
    return os.environ["TORCHINDUCTOR_CACHE_DIR"]


def test_compiled_code_is_kept_in_the_cache(monkeypatch, tmp_path, capsys):
    assert compiler_cache(monkeypatch, tmp_path / "cache", tmp_path) == str(tmp_path / "cache" / "inductor")
    assert capsys.readouterr().err == ""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "some" / "where"))
    cli.use_compiler_cache()
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(tmp_path / "some" / "where")
    assert (tmp_path / "some" / "where").is_dir()
    (tmp_path / "file").touch()
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "file" / "x"))
    with pytest.raises(UserError, match=r"TORCHINDUCTOR_CACHE_DIR: cannot make .*: Not a directory"):
        cli.use_compiler_cache()


def test_a_cache_that_nobody_can_write_to(monkeypatch, tmp_path, capsys):
    (tmp_path / "file").touch()
    monkeypatch.setattr(cli, "first_usable", lambda folders: (folders[0], "Read-only file system"))
    compiler_cache(monkeypatch, tmp_path / "file", tmp_path)
    assert "(Read-only file system): compiled code is kept nowhere; set LRA_CACHE" in capsys.readouterr().err


def test_a_cache_with_a_space_still_compiles(monkeypatch, tmp_path, capsys):
    """The compiler's own commands would break at a space anywhere in the path."""
    folder = compiler_cache(monkeypatch, tmp_path / "my cache", tmp_path)
    assert Path(folder).parent == tmp_path
    assert capsys.readouterr().err == ""
    spaced = tmp_path / "temporary files"
    spaced.mkdir()
    folder = compiler_cache(monkeypatch, tmp_path / "my cache", spaced)
    assert " " not in folder
    assert Path(folder).is_dir()


def test_where_every_path_has_a_space(tmp_path):
    folders = [tmp_path / "my cache", tmp_path / "temporary files"]
    assert cli.first_usable(folders) == (folders[0], "its path has a space")


def test_a_cache_that_cannot_be_written_is_named(monkeypatch, tmp_path, capsys):
    """A file in place of the folder, since root could write to a read-only folder."""
    (tmp_path / "cache").write_text("in the way")
    folder = compiler_cache(monkeypatch, tmp_path / "cache", tmp_path)
    assert Path(folder).parent == tmp_path
    line = capsys.readouterr().err
    assert line.startswith(f"cannot write to {tmp_path / 'cache' / 'inductor'} (Not a directory)")
    assert line.endswith("set LRA_CACHE to a folder of yours\n")


@pytest.mark.skipif(os.geteuid() == 0 if hasattr(os, "geteuid") else False, reason="root may write anywhere")
def test_folder_without_permission(tiny, tmp_path, capsys):
    tmp_path.chmod(0o500)
    assert main(["--attn", "elu", "--task", "listops", "--protocol", tiny, "--out", str(tmp_path / "x")]) == 2
    assert "cannot write to the output folder" in capsys.readouterr().err


@pytest.mark.parametrize("method", ["is_dir", "iterdir"])
@pytest.mark.parametrize("words", [["status"], ["report"], ["cite"], ["run", "--attn", "elu", "--dry-run", "--out"]])
def test_a_folder_that_may_not_be_read(words, method, tmp_path, monkeypatch, capsys):
    """Or one below such a folder, whose kind cannot be told. Raised by hand, since root may read everything."""
    real, secret = getattr(Path, method), tmp_path / "secret"
    secret.mkdir()

    def refused(path: Path) -> Any:
        if path == secret:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(Path, method, refused)
    assert main([*words, str(secret)] + (["--task", "listops"] if "run" in words else [])) == 2
    line = f"error: {secret}: Permission denied; change its permissions, or name another path\n"
    assert capsys.readouterr().err == line


def test_unwritable_output(tiny, tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")
    assert main(["--attn", "elu", "--task", "listops", "--protocol", tiny, "--out", str(tmp_path / "file" / "x")]) == 2
    assert "cannot write to the output folder" in capsys.readouterr().err


def test_corrupt_checkpoint(runs, tiny, tmp_path, capsys):
    (record,) = runs.glob("*.json")
    work = tmp_path / "work" / record.stem
    work.mkdir(parents=True)
    (work / "resume.pt").write_bytes(b"x" * 100)
    assert main(["--attn", "elu", "--task", "listops", "--protocol", tiny, "--out", str(tmp_path)]) == 2
    assert f"checkpoint {work / 'resume.pt'} is damaged; delete it" in capsys.readouterr().err


def test_broken_record_is_not_overwritten(runs, tiny, tmp_path, capsys):
    (record,) = runs.glob("*.json")
    broken = tmp_path / record.name
    broken.write_text(record.read_text()[:1000])
    assert main(["--attn", "elu", "--task", "listops", "--protocol", tiny, "--out", str(tmp_path)]) == 2
    assert f"{broken} is not a record" in capsys.readouterr().err
    assert broken.read_text() == record.read_text()[:1000]
    assert main(["report", str(runs), str(broken), "--out", str(tmp_path / "report")]) == 1
    assert "skipped" in capsys.readouterr().err


def test_without_locks_a_record_is_kept(tmp_path, monkeypatch, capsys):
    """Without file locks, two processes may do the same run: the first record is kept, and the grid goes on."""

    def nothing(*_):
        raise OSError(37, "No locks available")

    monkeypatch.setattr("lra.results.locks.fcntl.flock", nothing)
    request = asked(tmp_path, attentions=["mean"])
    real, others = job.train_and_test, []

    def overtaken(*arguments):
        record = real(*arguments)
        others.append(save(replace(record, seconds={"train": 1.0}), tmp_path))
        return record

    monkeypatch.setattr(job, "train_and_test", overtaken)
    (record,) = run_grid(request)
    assert record == load(others[0])
    assert "no locks in" in capsys.readouterr().err


def test_locked_cell_is_skipped(runs, tiny, tmp_path, capsys):
    from lra.training.run_folder import RunFolder

    (record,) = runs.glob("*.json")
    with RunFolder(tmp_path / "work" / record.stem).lock():
        assert main(["--attn", "elu", "--task", "listops", "--protocol", tiny, "--out", str(tmp_path)]) == 75
    said = capsys.readouterr().err
    assert "another process is working" in said
    assert "1 of 1 runs are being done by another process" in said


def test_record_name_and_content(runs):
    (path,) = runs.glob("*.json")
    assert path.name.startswith("listops-elu-tiny-s0-")
    assert set(path.name) <= set("abcdefghijklmnopqrstuvwxyz0123456789._=-")
    record = json.loads(path.read_text())
    assert len(record["attention"]["source_hash"]) == 12
    assert record["data"]["label"] == "generated"
    assert record["environment"]["threads"] == threads_per_process()


@pytest.mark.parametrize("arguments", [["--help"], ["list"], ["run", "--help"], ["--attn", "pla", "--task", "listops"],
                                       ["--attn", "pola", "--task", "listops", "--set", "train.x=1"]])  # fmt: skip
def test_no_heavy_import_for_a_message(arguments):
    code = "import sys; from lra.cli import main\ntry: main(sys.argv[1:])\nexcept SystemExit: pass\n"
    code += "print([m for m in ('torch', 'pandas', 'matplotlib', 'numba', 'datasets', 'ray') if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert done.stdout.splitlines()[-1] == "[]", done.stderr


def test_every_dependency_is_looked_for():
    """A missing dependency must give one line, not a traceback in the middle of a run."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    modules = {"pillow": "PIL", "pyyaml": "yaml"}
    needed = {re.split("[>=<~! ]", requirement)[0] for requirement in project["dependencies"]}
    assert {modules.get(name, name) for name in needed} == set(cli.NEEDED)


def test_bare_environment(tmp_path):
    """In an environment without packages, `python run_lra.py` says in one line what to install."""
    command = [sys.executable, "-S", str(ROOT / "run_lra.py")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "missing torch, numpy" in done.stderr
    assert "pip install" in done.stderr


@pytest.mark.parametrize("encoding", ["utf-8:strict", "ascii:strict"])
def test_a_message_about_a_name_that_no_encoding_has(tmp_path, encoding):
    """A folder's name may hold any byte, while stderr, or a progress bar's output, may encode strictly."""
    gone = os.fsencode(tmp_path) + b"/caf\xe9/gone.py"
    environment = os.environ | {"PYTHONIOENCODING": encoding}
    command = [sys.executable, str(ROOT / "run_lra.py"), "--task", "listops", "--attn", gone]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    code = "import sys\nfrom lra import cli, console\ncli.main(['--help'])\nconsole.say('caf\\udce9')"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "caf\\udce9\n"
