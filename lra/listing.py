"""`list`: what there is, without importing any of it."""

import attention_zoo
import tasks
from lra import protocol


def listing() -> str:
    """Attentions with cost and options, tasks, protocols; a few lines on how to add one's own."""
    lines = ["attentions (--attn name:option=value,...)"]
    for name in attention_zoo.names():
        entry, _ = attention_zoo.find(name)
        options = ", ".join(f"{key}={default}" for key, (_, default) in entry.options.items())
        lines.append(f"  {name:<10} {entry.title:<20} {entry.cost:<7} {options}")
    lines += ["  ./mine.py  any file with a registered class (README: add an attention)", "", "tasks (--task)"]
    lines += [f"  {name:<10} {tasks.find(name).title}" for name in tasks.names()]
    lines += ["", "protocols (--protocol)"]
    for name in protocol.protocols():
        lines.append(f"  {name:<14} {protocol.about_protocol(name)}")
    return "\n".join(lines)
