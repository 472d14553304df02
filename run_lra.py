"""python run_lra.py --attn pola --task listops"""

from lra.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
