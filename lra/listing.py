"""`list`: what there is, without importing any of it; and `protocol diff`."""

import attention_zoo
import tasks
from lra.config import protocol
from lra.config import resolve as config
from lra.experiments.data import resolve_for


def listing() -> str:
    """Attentions with cost and options, tasks, protocols; a few lines on how to add one's own."""
    lines = ["attentions (--attn name:option=value,...)"]
    for name in attention_zoo.names():
        entry, _ = attention_zoo.find(name)
        options = ", ".join(f"{key}={default}" for key, (_, default) in entry.options.items())
        lines.append(f"  {name:<10} {entry.title:<21} {entry.cost:<10} {options}")
    lines += ["  ./mine.py  any file with a registered class (README: add an attention)", "", "tasks (--task)"]
    lines += [f"  {name:<10} {tasks.find(name).title}" for name in tasks.names()]
    lines += ["  ./mine.py  any file with a task (docs/add-a-task.md)", "", "protocols (--protocol)"]
    for name in protocol.protocols():
        lines.append(f"  {name:<14} {protocol.about_protocol(name)}")
    return "\n".join(lines)


def difference(first: str, second: str) -> str:
    """Where two protocols differ once resolved, `key: first -> second`; what differs alike on all tasks comes first.

    Raises ConfigError.
    """
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
    left, right = (config.as_dict(resolve_for(task, name, [])) for name in (first, second))
    return [
        f"{section}.{key}: {value} -> {right[section][key]}"
        for section, values in left.items()
        for key, value in values.items()
        if value != right[section][key]
    ]
