"""Numbers as a reader sees them: percent, signed points, ranges."""

from collections.abc import Iterable

DASH = "\N{EN DASH}"  # no value; also between the ends of a range
MINUS = "\N{MINUS SIGN}"
DAGGER = "\N{DAGGER}"
TIMES = "\N{MULTIPLICATION SIGN}"
CIRCLE = "\N{WHITE CIRCLE}"


def percent(accuracy: float, decimals: int = 1) -> str:
    """0.369 -> '36.9'."""
    return f"{100 * accuracy:.{decimals}f}"


def signed(accuracy: float, decimals: int = 2) -> str:
    """A difference in percentage points: -0.012 -> '−1.20', with a true minus."""
    return f"{100 * accuracy:+z.{decimals}f}".replace("-", MINUS)  # z: no -0.00


def points(value: float | None, form: str = "{:+z.1f}") -> str:
    """0.012 -> '+1.2', with a true minus; a dash for None, and for NaN, which replaces None in a data frame."""
    return DASH if value is None or value != value else form.format(100 * value).replace("-", MINUS)


def interval(low: float | None, high: float | None) -> str:
    """'−1.6 to +1.7' in points, or a dash."""
    return DASH if points(low) == DASH else f"{points(low)} to {points(high)}"


def span(values: Iterable[float | None], form: str = "{:,.0f}", digits: int = 12) -> str:
    """'12,300' or '12,300–15,100', rounded to `digits` significant digits; a dash for no value."""
    known = [float(f"{value:.{digits}g}") for value in values if value is not None]
    ends = dict.fromkeys(form.format(end) for end in (min(known), max(known))) if known else {}
    return DASH.join(ends) or DASH


def p_value(p: float | None) -> str:
    """'0.034', '< 0.001' or a dash."""
    if p is None:
        return DASH
    return "< 0.001" if p < 0.001 else f"{p:.3f}"
