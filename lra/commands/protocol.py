"""show where two protocols differ"""

import argparse


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=("diff",))
    parser.add_argument("protocols", nargs=2, metavar="PROTOCOL", help="two names from `list`, or files")


def main(parsed: argparse.Namespace) -> int:
    print(difference(*parsed.protocols))
    return 0


def difference(first: str, second: str) -> str:
    """Where two resolved protocols differ, as `key: first -> second`; differences that all tasks share come first.

    Raises ConfigError.
    """
    import tasks
    from lra.config import protocol

    sections = [set(protocol.read_protocol(name).get("tasks") or {}) for name in (first, second)]
    shared = [task for task in tasks.names() if task in sections[0] & sections[1]]
    found = {task: _lines(first, second, task) for task in shared}
    everywhere = [line for line in next(iter(found.values()), []) if all(line in lines for lines in found.values())]
    lines = [*everywhere]
    lines += [f"{task}: {line}" for task, its in found.items() for line in its if line not in everywhere]
    lines += [f"{task}: only in {first}" for task in sorted(sections[0] - sections[1])]
    lines += [f"{task}: only in {second}" for task in sorted(sections[1] - sections[0])]
    return "\n".join(lines) or "no difference"


def _lines(first: str, second: str, task: str) -> list[str]:
    from lra.config.resolve import as_dict
    from lra.experiments.data import resolve_for

    left, right = (as_dict(resolve_for(task, name, [])) for name in (first, second))
    both = [(section, key) for section in left for key in {**left[section], **right[section]}]
    values = [(f"{s}.{key}", left[s].get(key, "-"), right[s].get(key, "-")) for s, key in both]
    return [f"{name}: {value} -> {other}" for name, value, other in values if value != other]
