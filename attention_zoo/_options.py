"""The options of a mechanism, which are the keyword-only arguments of its class, and how a user's text sets them."""

import difflib
import inspect
import math
from typing import Any

TYPES = {"int": int, "float": float, "bool": bool, "str": str}
LARGEST = 10**6  # the largest absolute value of an integer option; such options are sizes
Value = int | float | bool | str
Options = dict[str, tuple[type, Value]]  # name -> type, default


class SpecError(ValueError):
    """An unknown spec, or a mechanism or option that cannot be used; its message is one line for the user."""


def options_of(cls: type) -> Options:
    """The options of a class, from the signature of its constructor.

    Raises SpecError for one that is not keyword-only, has no default or no type of TYPES, or a default of another type.
    """
    options: Options = {}
    for parameter in inspect.signature(cls).parameters.values():
        kind, default, empty = parameter.kind, parameter.default, parameter.default is inspect.Parameter.empty
        if kind is inspect.Parameter.POSITIONAL_OR_KEYWORD and not empty:
            raise SpecError(
                f"{cls.__name__}: option {parameter.name!r} must be keyword-only: "
                f"def __init__(self, dims, *, {parameter.name}: ... = {default!r})"
            )
        if kind is not inspect.Parameter.KEYWORD_ONLY:
            continue
        hint = parameter.annotation
        hint = hint if isinstance(hint, str) else getattr(hint, "__name__", str(hint))
        if hint not in TYPES or empty:
            raise SpecError(
                f"{cls.__name__}: option {parameter.name!r} needs a type of {', '.join(TYPES)} and a default"
            )
        if not _is_value(default, TYPES[hint]):
            wanted = "a finite number" if hint == "float" else f"of type {hint}"
            raise SpecError(f"{cls.__name__}: the default of {parameter.name!r} must be {wanted}, not {default!r:.100}")
        options[parameter.name] = (TYPES[hint], default)
    return options


def _is_value(value: Any, kind: type) -> bool:
    """Is this a value that an option of this type can have, and a record can keep?"""
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value) if abs(value) < 2**53 else math.inf
    if type(value) is not kind:
        return False
    return abs(value) < 2**63 if kind is int else math.isfinite(value) if kind is float else True


def read_options(text: str, known: Options, name: str) -> dict[str, Value]:
    """'alpha=3,conv=7' -> the typed options of the attention `name`. Raises SpecError."""
    options: dict[str, Value] = {}
    for item in filter(None, text.split(",")):
        key, equals, value = (part.strip() for part in item.partition("="))
        if key not in known:
            all_of_them = ", ".join(known) or "none"
            raise SpecError(f"attention {name} has no option {key!r}{nearest(key, list(known))}; it has: {all_of_them}")
        if key in options:
            raise SpecError(f"attention {name}: {key} is given twice")
        kind = known[key][0]
        try:
            if not equals:
                raise ValueError
            if kind is int and not -LARGEST <= int(value) <= LARGEST:
                raise SpecError(f"attention {name}: {key} must lie within ±{LARGEST:,}, not {value[:40]}")
            if kind is float and not math.isfinite(float(value)):
                raise SpecError(f"attention {name}: {key} must be a finite number, not {value!r}")
            options[key] = {"true": True, "false": False}[value.lower()] if kind is bool else kind(value)
        except SpecError:
            raise
        except (ValueError, KeyError):
            wanted = "true or false" if kind is bool else f"of type {kind.__name__}"
            raise SpecError(f"attention {name}: {key} must be {wanted}, not {value[:200]!r}") from None
    return options


def nearest(word: str, known: list[str]) -> str:
    """', did you mean ...?', or '' if no known word is close."""
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f", did you mean {close[0]!r}?" if close else ""
