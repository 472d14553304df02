"""The contract every attention is held to; used by our own tests, by `run_lra.py check`, and by users on theirs.

    from lra.testing import parametrize_with_checks

    @parametrize_with_checks("./mine.py")
    def test_mine(spec, check):
        check(spec)

A check takes a spec, as on the command line, and a grid or None. It raises AssertionError where the contract is broken,
and may return what it found, in a few words. CHECKS are quick; each of THOROUGH takes a few seconds.
"""

from lra.testing._setup import build_attention
from lra.testing.checks import CHECKS, THOROUGH, declared, parametrize_with_checks

__all__ = ["CHECKS", "THOROUGH", "build_attention", "declared", "parametrize_with_checks"]
