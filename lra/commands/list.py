"""attentions with their options, tasks, protocols"""

import argparse


def add(parser: argparse.ArgumentParser) -> None: ...


def main(parsed: argparse.Namespace) -> int:  # noqa: ARG001
    from lra.listing import listing

    print(listing())
    return 0
