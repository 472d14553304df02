"""measure what each fault of earlier suites does to accuracy, or compare settings"""

import argparse
from pathlib import Path

from lra.commands.choice import add_choice, add_processes, given_words, make_request, seed, to_path
from lra.commands.output import end_of
from lra.errors import to_type

EXAMPLE = """\
examples:
  python run_lra.py audit --attn softmax elu pola --task all --protocol quick --seed 0 1 2
  python run_lra.py audit --attn pola --task image --settings model.backbone=flat,pyramid model.grid=false,true
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
        "--out",
        type=to_path,
        default=Path("results/audit"),
        help="records, audit.md, audit.csv (default results/audit)",
    )
    parser.add_argument(
        "--settings",
        nargs="+",
        default=[],
        metavar="KEY=V,V",
        help="instead of the faults: every combination of these values, with parameters and operations",
    )
    parser.add_argument("--dry-run", action="store_true", help="print the runs and how far they are; run nothing")
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, mps (default: the fastest available)")
    add_processes(parser, engines=("local", "ray"))


def main(parsed: argparse.Namespace) -> int:
    from lra.audit import quirks, settings
    from lra.experiments.plan import distinct, part_of
    from lra.report.render import markdown
    from lra.results.files import encoded, write_all

    request = make_request(parsed)
    by_choice = settings.planned_by_choice(request, parsed.settings) if parsed.settings else {}
    runs = distinct(run for planned in by_choice.values() for run in planned)
    runs = part_of(runs or quirks.planned(quirks.compare(request)), request.shard)
    if parsed.dry_run:
        from lra.commands import ahead

        return ahead.show(request, runs)
    if parsed.settings:
        lines, jobs = settings.run_settings(request, parsed.settings)
        frame, kind, measured = settings.table(lines), settings, bool(lines)
    else:
        effects, jobs = quirks.run_audit(request)
        frame, kind, measured = quirks.table(effects), quirks, any(effect.pairs for effect in effects)
    page = kind.document(frame, request, to_type(*given_words(parsed, "audit")))
    name, csv = "settings" if parsed.settings else "audit", frame.to_csv(index=False, lineterminator="\n")
    title = page.partition("\n")[0]
    write_all({f"{name}.md": encoded(page), f"{name}.csv": encoded(csv)}, parsed.out, (f"{name}.md", title))
    if measured:
        print(markdown(kind.sheet_of(frame), bold=False))
    print(f"records, {name}.md and {name}.csv in {parsed.out}")
    keys = {run.key for run in runs}
    outcomes = [job.record for job in jobs if job.run.key in keys]
    records = [record for record in outcomes if record is not None]
    return end_of(request, len(runs), records, len(outcomes) - len(records))
