"""An option that names an output file may replace the command's own earlier output, but no file of the user's."""

import pytest

from lra.cli import main

RUNS = ("--attn", "mean", "--task", "listops")


@pytest.fixture
def commands(tiny, tmp_path):
    few = ("--protocol", tiny, "--set", "data.train_rows=20", "data.validation_rows=5", "data.test_rows=5")
    return {
        "--emit": ("run", *RUNS, "--protocol", tiny, "--out", str(tmp_path / "runs"), "--emit"),
        "--page": ("list", "--page"),
        "keys --page": ("protocol", "keys", "--page"),
        "--file": ("data", "pack", "--task", "listops", *few, "--file"),
    }


@pytest.mark.parametrize("option", ["--emit", "--page", "keys --page", "--file"])
def test_a_file_of_the_users_stays(option, commands, tmp_path, capsys):
    path, words = tmp_path / "thesis", commands[option]
    path.write_text("# My thesis\n\n## Settings of mine\n\n# The zoo, too\n")
    mine = path.read_text()
    assert main([*words, str(path)]) == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith(f"error: {path} exists and ")
    assert path.read_text() == mine
    path.unlink()
    for _ in range(2):  # the second time, the command replaces its own file
        assert main([*words, str(path)]) == 0
    written = path.read_bytes()
    path.write_text("")  # an empty file, as `mktemp` makes it
    if option != "--file":
        assert main([*words, str(path)]) == 0
        assert path.read_bytes() == written
