"""make the most of limited GPU time: GPU tests, then time and memory of a step, then runs"""

import argparse
import re
from pathlib import Path

from lra.commands.choice import add_choice, seed, to_path
from lra.errors import UserError

EXAMPLES = """\
examples:
  python run_lra.py gpu --dry-run                       the plan, with minutes
  python run_lra.py gpu --minutes 60                    give the same command again to go on
  python run_lra.py gpu --minutes 15 --task listops --attn softmax pola --seed 0
  python run_lra.py gpu --minutes 10 --parts steps runs --task listops --attn softmax pola --seed 0

Parts that are done are not done again. OUT/summary.md says how each part ended, OUT/report has tables and the page.
"""


def add(parser: argparse.ArgumentParser) -> None:
    from lra.gpu.plan import PARTS, SIX

    parser.epilog = EXAMPLES
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--minutes", type=float, default=60.0, metavar="M", help="for all parts together (default 60)")
    parser.add_argument("--dry-run", action="store_true", help="print the plan and do nothing")
    parser.add_argument("--attn", nargs="+", default=list(SIX), metavar="ATTENTION", help=f"default: {' '.join(SIX)}")
    add_choice(parser, required=False)
    parser.add_argument(
        "--seed",
        type=seed,
        nargs="+",
        default=[0, 1, 2],
        metavar="N",
        help="seeds; every attention runs on every task once per seed (default 0 1 2)",
    )
    parser.add_argument(
        "--parts",
        nargs="+",
        choices=PARTS,
        default=PARTS,
        help="parts to do (default: all, in the order shown)",
    )
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1, or cpu to try the plan (default cuda)")
    parser.add_argument("--out", type=to_path, default=Path("results/runs/gpu"), help="default results/runs/gpu")


def main(parsed: argparse.Namespace) -> int:
    from lra.experiments.plan import expand_attentions
    from lra.gpu import carry_out, plan, summary

    if not 0 < parsed.minutes < float("inf"):
        raise UserError(f"--minutes must be positive, not {parsed.minutes}")
    if not re.fullmatch(r"cpu|cuda(:\d+)?", parsed.device):
        raise UserError(f"--device {parsed.device}: must be cuda, cuda:1, ..., or cpu to try the plan")
    request = plan.GPURequest(
        out=parsed.out.resolve(),
        minutes=parsed.minutes,
        seeds=tuple(dict.fromkeys(parsed.seed)),
        protocol=parsed.protocol,
        device=parsed.device,
        attentions=expand_attentions(parsed.attn),
        tasks=expanded(parsed.task) or plan.TASKS,
        files={expanded([word])[0]: word for word in parsed.task or [] if word.endswith(".py")},
        overrides=tuple(parsed.set),
        data_dir=str(parsed.data_dir.resolve()) if parsed.data_dir else "",
        parts=parsed.parts,
    )
    parts = plan.plan(request)
    if parsed.dry_run:
        print(summary.plan_text(parts, request))
        return 0
    check_device(parsed.device)
    outcomes = carry_out.carry_out(request, parts)
    print(f"summary in {request.out / 'summary.md'}")
    return int(any(outcome.state.startswith("failed") for outcome in outcomes))


def expanded(tasks: list[str] | None) -> list[str]:
    """The names of the requested tasks, cheap ones first."""
    from lra.experiments.data import expand_tasks
    from lra.gpu.plan import TASKS

    names = expand_tasks(tasks or [])
    return sorted(names, key=lambda name: TASKS.index(name) if name in TASKS else len(TASKS))


def check_device(name: str) -> None:
    """Raises UserError for a device that does not exist, before anything runs.

    It opens no context on a GPU, which would stay there while the parts, which are other processes, are timed.
    """
    from lra.experiments.grid import check_devices

    check_devices(["cuda:0" if name == "cuda" else name])
