"""Long tests that nothing is lost. PARTS chooses some of them, MINUTES bounds their time. Exit code 1 after a loss."""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
os.chdir(ROOT)
PARTS = {"kills": 0.6, "grids": 0.09, "disk": 0.08, "flips": 0.11, "fuzz": 0.12}  # file -> its share of the time


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__)
    parser.add_argument("parts", nargs="*", default=list(PARTS), metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--minutes", type=float, default=27.0, help="for all parts together (27)")
    parser.add_argument("--kills", type=int, default=200, help="kills, at most (200)")
    parser.add_argument("--flips", type=int, default=300, help="bits flipped in each kind of file (300)")
    parser.add_argument("--tries", type=int, default=4000, help="inputs of the fuzzer (4,000)")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 10**6, help="to repeat a soak that has failed")
    parsed = parser.parse_args()
    if unknown := [part for part in parsed.parts if part not in PARTS]:
        parser.error(f"there is no part {unknown[0]!r}; there are {', '.join(PARTS)}")
    return parsed


def main() -> int:
    parsed = parse()
    with tempfile.TemporaryDirectory(prefix="lra-soak-") as folder:
        os.environ |= {
            "LRA_CACHE": f"{folder}/cache",
            "NUMBA_CACHE_DIR": f"{folder}/numba",
            "OMP_NUM_THREADS": "1",
            "GOMP_SPINCOUNT": "5000",
        }
        import importlib

        from soak.counts import FAULTS, Plan

        plan = Plan(Path(folder), parsed.seed, parsed.kills, parsed.flips, parsed.tries)
        print(f"seed {parsed.seed}", flush=True)
        started = time.monotonic()
        for part in parsed.parts:
            plan.began = time.monotonic()
            plan.seconds = 60 * parsed.minutes * (PARTS[part] / sum(PARTS[name] for name in parsed.parts))
            importlib.import_module(f"soak.{part}").run(plan)
            print(f"{part}: {time.monotonic() - plan.began:.0f} s", flush=True)
        print(f"\n{plan.table()}\n\n{(time.monotonic() - started) / 60:.1f} minutes, seed {parsed.seed}")
        return int(any(plan.counts[kind] for kind in FAULTS))


if __name__ == "__main__":
    sys.exit(main())
