"""At most nine frames of `lra` from the command to backward(), so that a traceback fits on a screen."""

import sys
from pathlib import Path

import torch

from lra.cli import main

ROOT = Path(__file__).resolve().parent.parent
ALLOWED = 9  # from main of lra/cli to the function that calls backward()


def test_the_command_reaches_backward_in_nine_frames(tiny, tmp_path, monkeypatch):
    stacks = []
    backward = torch.Tensor.backward

    def spy(self, *arguments, **options):
        frame, stack = sys._getframe(1), []
        while frame is not None:
            code = frame.f_code
            if Path(code.co_filename).is_relative_to(ROOT / "lra"):
                stack.append(f"{Path(code.co_filename).relative_to(ROOT)}:{frame.f_lineno} {code.co_qualname}")
            frame = frame.f_back
        stacks.append(stack[::-1])
        return backward(self, *arguments, **options)

    monkeypatch.setattr(torch.Tensor, "backward", spy)
    arguments = ["--attn", "elu", "--task", "listops", "--protocol", tiny, "--device", "cpu", "--out", str(tmp_path)]
    assert main([*arguments, "--set", "train.steps=20"]) == 0
    deepest = max(stacks, key=len)
    assert deepest[0].endswith(" main")
    assert len(deepest) <= ALLOWED, "\n".join([f"{len(deepest)} frames:", *deepest])
