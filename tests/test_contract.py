"""Every registered attention, found by name, against the contract; a new file in the zoo is tested by being there."""

import pytest

import attention_zoo
from lra.testing import CHECKS

SPECS = [
    *attention_zoo.names(),
    "softmax:conv=5",
    "relu:conv=3",
    "agent:agents=9,bias=true",
    "flatten:key_positions=true",
    "pola:key_positions=true,conv=0",
    "pola:gate=off,power=fixed,flows=opposite",
    "local:block=5",
    "swin:window=2",
    "longformer:window=4,tokens=2",
    "performer:kernel=relu",
    "nystrom:landmarks=4,conv=0",
    "pvt:reduction=3,conv=3",
]


@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
@pytest.mark.parametrize("grid", [None, (4, 6)], ids=["sequence", "grid"])
@pytest.mark.parametrize("spec", SPECS)
def test_contract(spec, grid, check, request):
    entry, _ = attention_zoo.find(spec)
    if reason := entry.expected_failures.get(check.__name__):
        request.applymarker(pytest.mark.xfail(reason=reason, strict=True))
    check(spec, grid)
