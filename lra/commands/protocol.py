"""show a protocol in full, where two differ, or every key that --set takes"""

import argparse
import textwrap
from typing import TYPE_CHECKING

from lra.commands.choice import refuse_others, to_file
from lra.commands.output import aligned, write_page
from lra.errors import UserError, to_type

if TYPE_CHECKING:
    import tasks
    from lra.config.schema import Config

ACTIONS = (
    "diff: where two protocols differ; show: what one is, or with --task every value that it gives to a task, as a "
    "protocol file; keys: every key with its values, default and meaning, as docs/settings.md"
)
EXAMPLES = {
    "diff": (2, "takes two protocols: protocol diff standard skyformer"),
    "show": (1, "takes one protocol: protocol show standard --task listops"),
    "keys": (0, "takes no protocol; protocol show takes one"),
}
# argparse's own line would show PROTOCOL as mandatory for every action
USAGE = (
    "%(prog)s diff PROTOCOL PROTOCOL\n"
    "       %(prog)s show PROTOCOL [--task TASK [--set KEY=VALUE ...]]\n"
    "       %(prog)s keys [--page FILE]"
)
OPTIONS = {"diff": (), "show": ("task", "set"), "keys": ("page",)}  # action -> the options that it takes
COLUMNS = ("train.steps", "train.batch", "train.lr", "train.warmup", "model.layers", "model.dim")
WIDTH = 120


def add(parser: argparse.ArgumentParser) -> None:
    parser.usage = USAGE
    parser.add_argument("action", choices=("diff", "show", "keys"), help=ACTIONS)
    names = parser.add_argument(
        "protocols",
        nargs="+",
        default=[],
        metavar="PROTOCOL",
        help="names from `list`, or files: two for diff, one for show, none for keys",
    )
    names.required = False  # with nargs="*" a name after an option would be refused
    parser.add_argument("--task", metavar="TASK", help="show: a name from `list`, or a file")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="show: train.lr=3e-4 ...")
    parser.add_argument("--page", type=to_file, metavar="FILE", help="keys: write to this file, as docs/settings.md is")


def main(parsed: argparse.Namespace) -> int:
    count, example = EXAMPLES[parsed.action]
    if len(parsed.protocols) != count:
        raise UserError(f"protocol {parsed.action} {example}")
    refuse_others(parsed, OPTIONS[parsed.action], f"protocol {parsed.action}")
    if parsed.set and not parsed.task:
        raise UserError("protocol show needs --task where there is --set")
    if parsed.action == "diff":
        print(difference(*parsed.protocols))
    elif parsed.action == "show":
        name = parsed.protocols[0]
        print(in_full(name, parsed.task, parsed.set) if parsed.task else overview(name))
    else:
        from lra.commands.settings_page import page

        write_page(parsed.page, page()) if parsed.page else print(page(), end="")
    return 0


def in_full(name: str, task_name: str, overrides: list[str]) -> str:
    """A protocol file with every value that a task has under a protocol. Raises ConfigError or DataError."""
    from lra.config import protocol
    from lra.config.resolve import as_dict, label_of
    from lra.experiments.backbone import find_backbone
    from lra.experiments.data import find_task, resolve_for

    task = find_task(task_name)
    config = resolve_for(task.name, name, overrides)
    values = as_dict(config)
    values["model"]["backbone"] = find_backbone(config.model.backbone).address  # by which a user's file is found again
    label = label_of(name, config, resolve_for(task.name, name, []))
    about = f"{label} on {task.title}, every key. {protocol.about_protocol(name)}"
    content = {"deviations": protocol.deviations_of(name), "tasks": {task.name: values}}
    return f"{wrapped(about, '# ')}\n{protocol.as_yaml(content)}".rstrip()


def overview(name: str) -> str:
    """What a protocol's file says of itself, its deviations, and the main values of its tasks. Raises ConfigError."""
    import tasks
    from lra.config import protocol
    from lra.experiments.data import resolve_for

    sections = list(protocol.sections_of(name, protocol.read_protocol(name)))
    known = [task for task in sections if task in tasks.names()]
    lines = [wrapped(protocol.comment_of(name) or f"{name} does not begin with a comment that describes it."), ""]
    if deviations := protocol.deviations_of(name):
        texts = [wrapped(f"{word}: {text}", "  ") for word, text in deviations.items()]
        lines += ["differs from its source in", *texts, ""]
    heads = [key.partition(".")[2] for key in COLUMNS]
    rows = [main_values(tasks.find(task), resolve_for(task, name, [])) for task in known]
    lines += aligned([("task", *heads, "length"), *rows], right=range(1, 1 + len(COLUMNS))) if rows else []
    if users := [task for task in sections if task not in known]:
        lines.append(
            f"and sections for tasks that are not built in, which --task names by their files: {', '.join(users)}"
        )
    example = next(iter(known), "FILE")
    return "\n".join([*lines, "", f"every key: {to_type('protocol', 'show', name, '--task', example)}"])


def main_values(task: "tasks.Task", config: "Config") -> tuple[str, ...]:
    """A line of the overview."""
    from lra.config.resolve import as_dict

    values = as_dict(config)
    words = [str(values[section][key]) for section, _, key in (column.partition(".") for column in COLUMNS)]
    lengths = [f"{values['data'][key]} (data.{key})" for key in ("length", "max_length") if key in values["data"]]
    pixels = [f"{task.size} x {task.size} pixels"] if task.size else []
    return task.name, *words, next(iter([*lengths, *pixels]), "-")


def wrapped(text: str, indent: str = "") -> str:
    """A text as lines of at most WIDTH characters. A blank `indent` is doubled for the lines after the first."""
    after = indent if indent.strip() else 2 * indent
    return textwrap.fill(
        text, WIDTH, initial_indent=indent, subsequent_indent=after, break_long_words=False, break_on_hyphens=False
    )


def difference(first: str, second: str) -> str:
    """Where two resolved protocols differ, as `key: first -> second`; differences that all tasks share come first.

    Raises ConfigError.
    """
    import tasks
    from lra.config import protocol

    sections = [set(protocol.sections_of(name, protocol.read_protocol(name))) for name in (first, second)]
    shared = [task for task in tasks.names() if task in sections[0] & sections[1]]
    by_task = {task: _lines(first, second, task) for task in shared}
    everywhere = [line for line in next(iter(by_task.values()), []) if all(line in lines for lines in by_task.values())]
    lines = [*everywhere]
    lines += [f"{task}: {line}" for task, items in by_task.items() for line in items if line not in everywhere]
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
