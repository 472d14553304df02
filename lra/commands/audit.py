"""measure what each historic fault of earlier suites does to accuracy"""

import argparse
import shlex
from pathlib import Path

from lra.commands.choice import add_choice, add_processes, make_request, seed

EXAMPLE = """\
example:
  python run_lra.py audit --attn softmax elu pola --task all --protocol quick --seed 0 1 2
"""


def add(parser: argparse.ArgumentParser) -> None:
    parser.epilog = EXAMPLE
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--attn", nargs="+", required=True, metavar="ATTENTION", help="as for run")
    add_choice(parser)
    parser.add_argument(
        "--seed", nargs="+", type=seed, default=[0], metavar="N", help="default 0; three give an interval"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("results/audit"), help="records, audit.md, audit.csv (default results/audit)"
    )
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, mps (default: the fastest there is)")
    add_processes(parser)


def main(parsed: argparse.Namespace) -> int:
    from lra.audit import document, run_audit, sheet_of, table
    from lra.report.render import markdown
    from lra.results.files import encoded, write_all

    request = make_request(parsed)
    effects = run_audit(request)
    frame = table(effects)
    words = ["audit", "--attn", *parsed.attn, "--task", *parsed.task, "--protocol", parsed.protocol]
    words += ["--seed", *map(str, parsed.seed), *(["--set", *parsed.set] if parsed.set else [])]
    page = document(frame, request, f"python run_lra.py {shlex.join(words)}")
    csv = frame.to_csv(index=False, lineterminator="\n")
    write_all({"audit.md": encoded(page), "audit.csv": encoded(csv)}, parsed.out)
    print(markdown(sheet_of(frame)))
    print(f"records, audit.md and audit.csv in {parsed.out}")
    return int(not any(effect.pairs for effect in effects))
