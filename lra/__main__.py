"""`python -m lra` is `python run_lra.py` where the package is installed and there is no checkout."""

from lra.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
