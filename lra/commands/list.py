"""attentions with their options, tasks, protocols"""

import argparse


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--long", action="store_true", help="attentions with parameters, operations, fidelity, source")


def main(parsed: argparse.Namespace) -> int:
    if parsed.long:
        from lra.experiments.match import long_listing

        print(long_listing())
        return 0
    from lra.listing import listing

    print(listing())
    return 0
