"""where two protocols differ"""

import argparse


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=("diff",))
    parser.add_argument("protocols", nargs=2, metavar="PROTOCOL", help="two names from `list`, or files")


def main(parsed: argparse.Namespace) -> int:
    from lra.listing import difference

    print(difference(*parsed.protocols))
    return 0
