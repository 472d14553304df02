"""The contract every attention is held to; used by our own tests, by `run_lra.py check`, and by users on theirs.

    from lra.testing import parametrize_with_checks

    @parametrize_with_checks("./mine.py")
    def test_mine(spec, check):
        check(spec)

A check takes a spec, as on the command line, and a grid or None. It raises AssertionError with what is usually wrong,
and may return a word on what it found. CHECKS are quick, THOROUGH take a few seconds each.
"""

from collections.abc import Callable
from typing import Any

import attention_zoo
from lra.testing import _contract, _cost
from lra.testing import _thorough as _machine
from lra.testing._setup import Check, build_attention

__all__ = ["CHECKS", "THOROUGH", "build_attention", "parametrize_with_checks"]

CHECKS: dict[str, Check] = {
    check.__name__: check
    for check in (
        _contract.runs,
        _contract.shapes,
        _contract.gradients,
        _contract.gradcheck,
        _contract.padding_content,
        _contract.padding_amount,
        _contract.scattered_padding,
        _contract.all_padding,
        _contract.keep_none,
        _contract.batch_rows,
        _contract.deterministic,
        _contract.low_precision,
        _contract.round_trip,
        _contract.deep_copy,
        _machine.no_waiting,
        _machine.order,
    )
}
THOROUGH: dict[str, Check] = {
    check.__name__: check for check in (_machine.bfloat16_at_4096, _machine.compiles, _cost.cost, _machine.learns)
}


def parametrize_with_checks(*specs: str, thorough: bool = True) -> Callable[[Any], Any]:
    """A pytest decorator: the test gets each (spec, check); what a mechanism declares to fail must fail.

    Raises SpecError for an unknown spec.
    """
    import pytest

    cases = []
    for spec in specs:
        entry, _ = attention_zoo.find(spec)
        for name, check in (CHECKS | THOROUGH if thorough else CHECKS).items():
            reason = entry.expected_failures.get(name)
            marks = [pytest.mark.xfail(reason=reason, strict=True)] if reason else []
            cases.append(pytest.param(spec, check, id=f"{spec}-{name}", marks=marks))
    return pytest.mark.parametrize(("spec", "check"), cases)
