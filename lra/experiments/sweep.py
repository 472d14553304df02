"""Equal tuning: the same values are tried for every attention and task, and validation chooses among them.

`--sweep train.lr=1e-4,3e-4 --select validation` runs a pilot for each value (with several keys, for each combination)
on a seed of its own, in `pilots/` below the output folder, where no report reads them. The requested seeds then run
with the value whose pilot had the highest validation accuracy. Every record says what was tried and what was chosen.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from dataclasses import replace
from typing import Any

from lra.config.resolve import as_dict, config_hash
from lra.console import say, say_once
from lra.errors import ConfigError
from lra.experiments.grid import run_jobs
from lra.experiments.job import Job
from lra.experiments.plan import Request, part_of_rows, plan
from lra.experiments.run import Run
from lra.results.record import Record

PILOT_SEED = 1000  # unlikely among the requested seeds; where it is one of them, the pilots take the next free number

Choice = tuple[str, ...]  # one override for each key that is swept


def run_sweep(request: Request, texts: list[str]) -> tuple[list[Record], int, bool]:
    """Runs the pilots, then the seeds with the chosen values.

    Returns the records of the seeds, how many seeds wait for another process, which has them or their pilots, and
    whether no attention lacks a choice because a pilot failed. Raises as `grid.run_jobs` does, and
    ConfigError for a sweep that cannot be read.
    """
    if request.match_params:
        raise ConfigError("--sweep tunes the mechanisms as they are; sweep without --match-params")
    runs, pilots, seed, choices = plan_sweep(request, texts)
    forgiving = "all" in request.tasks
    say(f"{len(pilots)} pilots: {len(choices)} for each mechanism and task, seed {seed}")
    jobs = run_jobs(replace(request, out=request.out / "pilots"), pilots, forgiving)
    keys = [text.partition("=")[0] for text in choices[0]]
    tuned, waiting, complete = [], 0, True
    for run in runs:
        pilots_of_run = [job for job in jobs if (job.run.task, job.run.row) == (run.task, run.row)]
        best = choose(pilots_of_run)
        if best is not None:
            about = {"select": "validation", "pilot_seed": seed, "config_hash": config_hash(run.config)}
            about |= describe_choice(keys, pilots_of_run, best)
            label = swept_label(run.protocol, about["values"])
            chosen = {"config": best.run.config, "backbone": best.run.backbone}
            tuned.append(replace(run, **chosen, protocol=label, tuning=about))
            say_once(f"{run.task} {run.row}: {in_words(about)}")
        elif pilots_of_run:
            failed = any(job.record is not None and not job.final for job in pilots_of_run)
            complete, waiting = complete and not failed, waiting + (not failed)
            say(f"{run.task} {run.row} seed {run.seed} waits: not all its pilots are done; start the command again")
    outcomes = [job.record for job in run_jobs(request, tuned, forgiving)]
    records = [record for record in outcomes if record is not None]
    return records, waiting + len(outcomes) - len(records), complete


def plan_sweep(request: Request, texts: list[str]) -> tuple[list[Run], list[Run], int, list[Choice]]:
    """The requested runs before tuning, their pilots, the pilots' seed, the choices. Raises as `run_sweep` does."""
    choices = read_choices(texts, request.overrides)
    runs = part_of_rows(plan(request), request.shard)
    seed = next(number for number in itertools.count(PILOT_SEED) if number not in request.seeds)
    return runs, plan_pilots(request, choices, seed, {(run.task, run.row) for run in runs}), seed, choices


def read_choices(texts: list[str], overrides: tuple[str, ...], option: str = "--sweep") -> list[Choice]:
    """['train.lr=1e-4,3e-4', 'model.dropout=0,0.1'] -> the four combinations, in this order. Raises ConfigError.

    option: the command-line option of these texts, for messages.
    """
    lists: dict[str, list[str]] = {}
    for text in texts:
        key, equals, values = text.partition("=")
        items = [value.strip() for value in re.split(r",(?![^\[]*\])", values)]  # commas within [...] do not separate
        if twice := [value for value, count in Counter(items).items() if count > 1 and value]:
            raise ConfigError(f"{option} {text}: {twice[0]} is given twice")
        if not equals or "" in items or len(items) < 2 or key.count(".") != 1:
            raise ConfigError(f"{option} takes section.key=value,value,..., as in train.lr=1e-4,3e-4, not {text!r}")
        if key.startswith("data."):
            raise ConfigError(f"{option}: {key} would change the task itself; sweep keys of train and model")
        if key in ("train.precision", "train.gear"):
            raise ConfigError(
                f"{option}: {key} is not chosen by validation, because it only says how to compute; use --set"
            )
        if key in lists or any(other.partition("=")[0] == key for other in overrides):
            raise ConfigError(f"{option}: {key} is given twice; values of one key go into one list, and not into --set")
        lists[key] = [f"{key}={value}" for value in items]
    return list(itertools.product(*lists.values()))


def plan_pilots(request: Request, choices: list[Choice], seed: int, wanted: set[tuple[str, str]]) -> list[Run]:
    """A run for each choice and each wanted (task, row). Raises ConfigError for an unknown key or a wrong value."""
    pilots = []
    for choice in choices:
        runs = plan(replace(request, seeds=[seed], overrides=(*request.overrides, *choice)))
        pilots += [replace(run, tuning={"pilot": True}) for run in runs if (run.task, run.row) in wanted]
    unique = {(run.task, run.row, config_hash(run.config)): run for run in pilots}
    return list(unique.values())


def choose(pilots: list[Job]) -> Job | None:
    """The pilot with the best validation accuracy, the first of equals; None while one is missing or has failed.

    A pilot that diverged loses to every other; where all diverged, the first is chosen.
    """
    if not pilots or not all(job.final for job in pilots):
        return None
    accuracies = [accuracy_of(job.record) for job in pilots]
    ranked = [-1.0 if accuracy is None else accuracy for accuracy in accuracies]
    return pilots[ranked.index(max(ranked))]


def accuracy_of(record: Record | None) -> float | None:
    """Validation accuracy of the checkpoint that a run would test; None where it diverged."""
    if record is None or record.status != "done":
        return None
    last = record.curve[-1]["validation_accuracy"] if record.curve else None
    return record.validation_accuracy if record.validation_accuracy is not None else last


def describe_choice(keys: list[str], pilots: list[Job], best: Job) -> dict[str, Any]:
    """The record's entry for tuning: the values tried, the accuracies of the pilots, the choice."""
    tried = [values_of(job.run, keys) for job in pilots]
    return {
        "values": {key: list(dict.fromkeys(values[key] for values in tried)) for key in keys},
        "pilots": len(pilots),
        "validation_accuracy": [
            {**values, "accuracy": accuracy_of(job.record)} for values, job in zip(tried, pilots, strict=True)
        ],
        "chosen": values_of(best.run, keys),
    }


def in_words(tuning: dict[str, Any]) -> str:
    """What a sweep has chosen, and whether others were as good."""
    chosen = ", ".join(f"{key}={value}" for key, value in tuning["chosen"].items())
    accuracies = [pilot["accuracy"] for pilot in tuning["validation_accuracy"]]
    best = max((accuracy for accuracy in accuracies if accuracy is not None), default=None)
    if best is None:
        return f"{chosen}, because all pilots diverged"
    equal = f", the first of {accuracies.count(best)} that are equal" if accuracies.count(best) > 1 else ""
    return f"{chosen} (validation {100 * best:.1f} %{equal})"


def values_of(run: Run, keys: list[str]) -> dict[str, Any]:
    """The configured values of keys such as "train.lr"."""
    plain = as_dict(run.config)
    sections = {key: key.split(".") for key in keys}
    return {key: plain[section][name] for key, (section, name) in sections.items()}


def swept_label(label: str, values: dict[str, list[Any]]) -> str:
    """'standard' -> 'standard[swept: train.lr of 3]'."""
    words = "swept: " + ", ".join(f"{key} of {len(tried)}" for key, tried in values.items())
    return f"{label[:-1]},{words}]" if label.endswith("]") else f"{label}[{words}]"
