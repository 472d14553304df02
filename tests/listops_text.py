"""ListOps trees for the tests: tokens, nested lists, their values by plain Python, the released files' text."""

import statistics

import numpy as np

import tasks

WORDS = [*"0123456789", "[MIN", "[MAX", "[MED", "[SM", "]"]
SHORT = tasks.find("listops").settings(
    train_rows=300, validation_rows=40, test_rows=50, min_length=10, max_length=90, max_depth=6
)


def encode(text):
    return np.array([WORDS.index(word) for word in text.split()], np.uint8)


def parse(tokens, settings):
    """Parses tokens and checks the grammar -> the tree as nested lists, its number of tokens, its depth with digits."""
    if tokens[0] < 10:
        return int(tokens[0]), 1, 1
    arguments, at, depth = [], 1, 0
    while tokens[at] != 14:
        child, used, below = parse(tokens[at:], settings)
        arguments.append(child)
        at, depth = at + used, max(depth, below)
    assert 2 <= len(arguments) <= settings.max_args
    assert depth + 1 <= settings.max_depth
    return [WORDS[tokens[0]], *arguments], at + 1, depth + 1


def value_of(tree):
    """The value by the definitions of the original generator."""
    if isinstance(tree, int):
        return tree
    operator, *arguments = tree
    rules = {"[MIN": min, "[MAX": max, "[MED": lambda a: int(statistics.median(a)), "[SM": lambda a: sum(a) % 10}
    return rules[operator]([value_of(argument) for argument in arguments])


def released_text(tree):
    """A tree in the released files' text, where every node is a left-nested chain of pairs."""
    if isinstance(tree, int):
        return str(tree)
    operator, *arguments = tree
    rest = "".join(f" {released_text(argument)} )" for argument in arguments)
    return "( " * (len(arguments) + 1) + operator + rest + " ] )"


def rows_of(split):
    return [split.values[row, :length] for row, length in enumerate(split.lengths)]


def write_released(folder, data):
    """Writes generated data in the format of the released files."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, split in (("train", data.train), ("val", data.validation), ("test", data.test)):
        lines = [
            f"{released_text(parse(row, SHORT)[0])}\t{label}\r\n"
            for row, label in zip(rows_of(split), split.labels, strict=True)
        ]
        (folder / f"basic_{name}.tsv").write_text("Source\tTarget\r\n" + "".join(lines), newline="")
