"""write the first file of a new attention, and its test"""

import argparse
import importlib.util
import keyword
import re
from pathlib import Path

from lra.commands.choice import to_path
from lra.errors import UserError, to_type

MECHANISM = '''\
"""{title} attention: what it is, in one line; its source."""

import torch.nn.functional as F
from torch import Tensor

from attention_zoo import Dims, QKVAttention, linear_attention, register


@register("{name}", title="{title}", cost="O(N)")
class {cls}Attention(QKVAttention):
    """phi(q) (phi(k)^T v), normalised per query, with phi(t) = relu(t)^power.

    power: the exponent; `{name}.py:power=3` on the command line. conv: taps of a local convolution of v, 0 = none.
    """

    def __init__(self, dims: Dims, *, power: int = 2, conv: int = 0):
        super().__init__(dims, conv=conv)
        self.power = power

    def attend(self, q: Tensor, k: Tensor, v: Tensor, keep: Tensor | None = None) -> Tensor:
        """q, k, v (B, H, N, K), keep (B, N), True at real tokens -> (B, H, N, K)."""
        return linear_attention(F.relu(q) ** self.power, F.relu(k) ** self.power, v, keep)
'''
TEST = '''\
"""The contract on {name}.py: padding, gradients, precision, compilation, cost, training; run it with pytest."""

from pathlib import Path

from lra.testing import parametrize_with_checks

MINE = str(Path(__file__).with_name("{name}.py"))


@parametrize_with_checks(MINE)
def test_contract(spec, check):
    check(spec)


@parametrize_with_checks(MINE + ":power=3", thorough=False)
def test_contract_with_options(spec, check):
    check(spec)
'''


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", help="name of the attention and its file: lower-case letters, digits, _")
    parser.add_argument(
        "--dir", type=to_path, default=Path(), help="folder for the two files (default: the current folder)"
    )


def main(parsed: argparse.Namespace) -> int:
    mechanism, test = create(parsed.name, parsed.dir)
    path = mechanism if mechanism.is_absolute() else f"./{mechanism}"
    print(f"wrote {mechanism} and {test}; next:")
    print(f"  {to_type('check', path)}")
    print(f"  python -m pytest {test}")
    print(f"  {to_type('--attn', 'softmax', path, '--task', 'listops', '--protocol', 'quick')}")
    return 0


def create(name: str, folder: Path) -> list[Path]:
    """Writes `name.py` and `test_name.py` into the folder and replaces no file. Raises UserError."""
    import attention_zoo

    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise UserError(f"new-attention {name!r}: a name is lower-case letters, digits and _, and starts with a letter")
    if keyword.iskeyword(name):
        raise UserError(f"new-attention {name!r}: this is a word of Python's own; choose another")
    files = {folder / f"{name}.py": MECHANISM, folder / f"test_{name}.py": TEST}
    for path in files:
        if path.exists():
            raise UserError(f"{path} exists and is not replaced; choose another name or another --dir")
    if importlib.util.find_spec(name) is not None:
        raise UserError(f"new-attention {name!r}: a package has this name, which the file would hide; choose another")
    if name in attention_zoo.names():
        raise UserError(f"new-attention {name!r}: a built-in attention has this name; choose another")
    words = {"name": name, "title": name.replace("_", " ").capitalize()}
    words["cls"] = "".join(part.capitalize() for part in name.split("_"))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, text in files.items():
            path.write_text(text.format(**words), encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot write to {folder}: {error.strerror}") from error
    return list(files)
