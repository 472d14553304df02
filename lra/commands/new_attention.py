"""write a file to start an attention of one's own from, and its test"""

import argparse
from pathlib import Path


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", help="of the mechanism and its file: lower-case letters, digits, _")
    parser.add_argument("--dir", type=Path, default=Path(), help="folder for the two files (default: this one)")


def main(parsed: argparse.Namespace) -> int:
    from lra.new_attention import create

    mechanism, test = create(parsed.name, parsed.dir)
    path = mechanism if mechanism.is_absolute() else f"./{mechanism}"
    print(f"wrote {mechanism} and {test}; next:")
    print(f"  python run_lra.py check {path}")
    print(f"  python -m pytest {test}")
    print(f"  python run_lra.py --attn softmax {path} --task listops --protocol quick")
    return 0
