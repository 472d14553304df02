"""Conventions of the tables: the order of rows and tasks, the baseline, what is averaged; titles and families.

It is the only file of this room that knows an attention or a task by name. Records carry `attention["title"]`,
`attention["family"]` and `data["title"]`; for older records, which lack them, the values are here.
"""

import re
from typing import Any

ROWS = ("softmax", "relu", "elu", "flatten", "agent", "pola")  # shown first, in this order
CONTROLS = ("mean", "identity", "local_conv")  # shown last, in this order
CONTROL = "control"  # the family of rows that are no mechanism
FAMILIES = {  # family, in the order of display -> its mechanisms, for records that do not name their family
    "softmax": ("softmax",),
    "linear": ("relu", "elu", "flatten", "pola", "polapp", "performer", "cosformer", "hedgehog", "taylor"),
    "low_rank": ("agent", "linformer", "nystrom", "pvt"),
    "sparse": ("local", "longformer", "swin"),
    "recurrent": ("s4d",),
    "mixing": ("fnet",),
    "": (),  # hybrids of several families, and users' files that do not say theirs
    CONTROL: CONTROLS,
}
ARENA = ("listops", "text", "retrieval", "image", "pathfinder")  # the tasks of LRA's average
TASKS = (*ARENA[:3], "retrieval_matched", *ARENA[3:])  # shown first, in this order
TITLES = {"listops": "ListOps", "pathfinder64": "Pathfinder-64", "pathx": "Path-X", "path256": "Path-256"}
BASELINE = "softmax"  # the row that differences are taken to, unless the user asks for another
AVERAGED_APART = "retrieval"  # a second average leaves it out: its data is often not the official one


def family_of(attention: dict[str, Any], name: str) -> str:
    """The family of a row; of an older record, the one that its mechanisms share, or ''. name: without options."""
    if "family" in attention:
        return str(attention["family"])
    parts = [re.sub(r"\*\d+$", "", part) for part in name.split("+")]
    families = {next((family for family, names in FAMILIES.items() if part in names), "") for part in parts}
    if "control" in attention and bool(attention["control"]) != (families == {CONTROL}):
        return CONTROL if attention["control"] else ""
    return families.pop() if len(families) == 1 else ""


def family_order(family: str) -> int:
    """Sort key: the known families in their order; an unknown one counts as '', just before the controls."""
    return list(FAMILIES).index(family if family in FAMILIES else "")


def is_control(attention: dict[str, Any], name: str) -> bool:
    """Whether a row is a control, such as a plain mean, rather than a mechanism. name: without options."""
    return family_of(attention, name) == CONTROL


def task_title(task: str, data: dict[str, Any] | None = None) -> str:
    """The task's name in headings."""
    return str((data or {}).get("title") or TITLES.get(task, task.capitalize()))


def task_order(task: str) -> tuple[int, str]:
    """Sort key: the known tasks in their order, then the others by name."""
    return (TASKS.index(task) if task in TASKS else len(TASKS), task)


def row_order(name: str) -> int:
    """Sort key: the known rows in their order, then the others. name: without options."""
    known = ROWS + CONTROLS
    return known.index(name) if name in known else len(known)
