"""The check that a mechanism costs what it declares."""

import attention_zoo
from lra.bench.flops import agrees, exponent
from lra.testing._setup import Grid, build_attention


def cost(spec: str, grid: Grid = None) -> str:
    """Operations grow with N as `register(..., cost=...)` says; a dense matrix with a mask costs N^2."""
    declared = attention_zoo.find(spec)[0].cost
    assert declared, "no cost is declared: @register(..., cost='O(N)')"

    def make(tokens: int) -> attention_zoo.Attention:
        return build_attention(spec, dim=64, heads=2, length=tokens, grid=(tokens // 64, 64) if grid else None)

    measured = exponent(make, dim=64)
    assert agrees(measured, declared), f"declared {declared}, counted N^{measured:.2f}"
    return f"{declared}, counted N^{measured:.2f}"
