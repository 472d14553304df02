"""A pretrained encoder's folder is named by a hash of all that made it, so that no other encoder gets its place."""

from dataclasses import replace
from pathlib import Path

import pytest
from asking import asked

from lra.experiments.plan import plan
from lra.experiments.pretrain import folder_name
from lra.experiments.run import Run

FILE = """
from attention_zoo import QKVAttention, register


@register("mine", title="Mine")
class Mine(QKVAttention):
    def attend(self, q, k, v, keep=None):
        return v * SCALE
"""


@pytest.fixture
def planned(tmp_path: Path):
    """A run of a user's file in this folder; since a process does not see edits, each version has another folder."""

    def make(folder: str, scale: str) -> Run:
        path = tmp_path / folder / "mine.py"
        path.parent.mkdir()
        path.write_text(FILE.replace("SCALE", scale))
        settings = ("train.pretrain=masked", "train.pretrain_steps=20")
        return plan(asked(attentions=[str(path)], overrides=settings))[0]

    return make


def test_whatever_makes_another_encoder_gives_it_another_folder(planned):
    """Only the hash at the end of the name differs."""
    run, data = planned("first", "1.0"), "0" * 12
    names = {
        "as it is": folder_name(run, data),
        "other data": folder_name(run, "1" * 12),
        "an edited file": folder_name(planned("edited", "2.0"), data),
        "another precision": folder_name(replace(run, precision="bfloat16"), data),
        "another seed": folder_name(replace(run, seed=1), data),
        "another task": folder_name(replace(run, task="text"), data),
    }
    hashes = {name.rpartition("-")[2] for name in names.values()}
    assert len(hashes) == len(names), names
    assert folder_name(planned("copied", "1.0"), data) == names["as it is"]
