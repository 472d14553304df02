"""Two grids at once on one folder: each run is done once, by either grid, also when one of the two is killed."""

from __future__ import annotations

import random
import re
import shutil
import time

from soak.commands import Command, contents
from soak.counts import Plan
from soak.kills import PATIENCE, undisturbed, words_of

TOGETHER = 20  # pairs of grids, at most


def run(plan: Plan) -> None:
    draw = random.Random(plan.seed + 1)
    calm, seconds = undisturbed(plan, plan.folder / "calm-pair", 2)
    for number in range(TOGETHER):
        if not plan.left():
            break
        out = plan.folder / f"pair{number}"
        words = words_of(out, 2)
        pair = [Command(words, plan.folder / f"pair{number}-{side}.txt") for side in "ab"]
        if number % 2:
            time.sleep(draw.uniform(0, seconds))
            pair[0].kill()
            plan.counts["of two grids at once, one killed"] += 1
        codes = [command.wait(PATIENCE) for command in pair]
        if any(code not in (0, 75, -9) for code in codes):
            plan.fault("losses", f"two grids at once ended with {codes}")
        ended = [line for command in pair for line in re.findall(r"seed \d: test ", command.text())]
        if not number % 2 and len(ended) != len(calm):
            plan.fault("losses", f"two grids at once have done {len(ended)} runs instead of {len(calm)}")
        Command(words, plan.folder / "rest.txt").wait(PATIENCE)  # ends what the killed one had begun
        for command in pair:
            if "Traceback" in (said := command.text()):
                plan.fault("tracebacks", said[said.index("Traceback") :][-600:])
        found = contents(out)
        for name, content in calm.items():
            plan.counts["their records compared"] += 1
            if found.get(name) != content:
                plan.fault("losses", f"{name} {'differs' if name in found else 'is missing'} after two grids at once")
        plan.counts["two grids at once"] += 1
        shutil.rmtree(out)
    plan.take("two grids at once", "of two grids at once, one killed", "their records compared")
