"""The checks by name, and the decorator that runs them as tests."""

from collections.abc import Callable
from typing import Any

import attention_zoo
from lra.errors import suggestion
from lra.testing import _contract, _state, _thorough
from lra.testing._setup import Check

CHECKS: dict[str, Check] = {
    check.__name__: check
    for check in (
        _state.parameters,
        _contract.runs,
        _contract.shapes,
        _contract.dtype,
        _contract.finite,
        _contract.gradients,
        _contract.gradcheck,
        _contract.padding_content,
        _contract.padding_amount,
        _contract.scattered_padding,
        _contract.all_padding,
        _contract.keep_none,
        _contract.batch_rows,
        _state.deterministic,
        _state.seeded,
        _state.settings,
        _state.state,
        _state.device,
        _contract.low_precision,
        _state.round_trip,
        _state.deep_copy,
        _thorough.no_waiting,
        _thorough.order,
    )
}
THOROUGH: dict[str, Check] = {
    check.__name__: check
    for check in (
        _thorough.bfloat16_at_4096,
        _thorough.compiles,
        _thorough.compiled_once,
        _thorough.cost,
        _thorough.learns,
    )
}


def declared(spec: str) -> attention_zoo.Entry:
    """The entry of a spec. Raises SpecError for an unknown spec, or one whose expected_failures names no check."""
    entry, _ = attention_zoo.find(spec)
    known = [*CHECKS, *THOROUGH]
    for name in entry.expected_failures:
        if name not in known:
            raise attention_zoo.SpecError(
                f"{spec}: expected_failures: no check is named {name!r}{suggestion(name, known)}"
            )
    return entry


def parametrize_with_checks(*specs: str, thorough: bool = True) -> Callable[[Any], Any]:
    """A pytest decorator that calls the test with each (spec, check); a check that is declared to fail must fail.

    thorough: with the checks that take seconds. Raises SpecError for an unknown spec, or for none.
    """
    import pytest

    if not specs:
        raise attention_zoo.SpecError("parametrize_with_checks needs an attention: './mine.py', 'pola', ...")
    cases = []
    for spec in specs:
        entry = declared(spec)
        plain = not attention_zoo.find(spec)[1]  # an option may cure what is declared
        for name, check in (CHECKS | THOROUGH if thorough else CHECKS).items():
            reason = entry.expected_failures.get(name)
            marks = [pytest.mark.xfail(reason=reason, strict=plain)] if reason else []
            cases.append(pytest.param(spec, check, id=f"{spec}-{name}", marks=marks))
    return pytest.mark.parametrize(("spec", "check"), cases)
