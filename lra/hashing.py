"""Identities and seeds: hashes that are the same on every machine."""

import hashlib
import json
from typing import Any


def identity_of(fields: dict[str, Any], digits: int = 12) -> str:
    """The first `digits` hexadecimal digits of a SHA-256 over JSON-able fields, whatever the order of their keys."""
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:digits]


def seed_of(*parts: object) -> int:
    """A 63-bit seed from anything printable, the same on every machine."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1
