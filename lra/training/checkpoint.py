"""Checkpoints and weights as files in which damage is detected: each has a digest, which is compared on reading.

Only tensors and plain values are unpickled.
"""

from __future__ import annotations

import hashlib
import io
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from lra.console import say_once
from lra.errors import WorkError
from lra.results.files import write_atomically
from lra.training.device import lacks_memory
from lra.training.progress import Progress

PARTS = {"model": dict, "update": dict, "best": dict | None, "progress": dict}  # of a state
LATER = {"gear": dict}  # parts that older states lack
DIGEST = hashlib.sha256().digest_size  # bytes of the digest, with which a file begins


def write_state(newest: Path, before: Path, state: dict[str, Any]) -> None:
    """Writes the digest of a state, then the state; keeps the previous newest file as `before`. Raises OSError."""
    buffer = io.BytesIO(bytes(DIGEST))
    buffer.seek(DIGEST)
    torch.save(state, buffer)
    content = buffer.getbuffer()  # no copy, because a state can take gigabytes
    content[:DIGEST] = hashlib.sha256(content[DIGEST:]).digest()
    if newest.exists():
        newest.replace(before)  # after a kill from here on, the run resumes from `before`
    write_atomically(newest, content)


def read_state(newest: Path, before: Path) -> dict[str, Any] | None:
    """The newest usable state, on the CPU, or None if there is no file. Prints a line if `newest` is not usable.

    Raises WorkError if no file is usable. Another command may be saving or ending the run meanwhile: it moves `newest`
    to `before`, so a file that vanishes counts as absent, and `before` is looked at last.
    """
    problems = []
    for path in (newest, before):
        try:
            state = _read(path)
        except FileNotFoundError:
            continue
        except _UnusableError as error:
            problems.append(f"checkpoint {path} is {error}")
            continue
        if problems:
            say_once(f"{problems[0]}: the run goes on from the one before, {before.name}")
        return state
    if problems:
        raise WorkError(f"{problems[0]}; delete it to start this run again")
    return None


class _UnusableError(Exception):
    """Says what is wrong with a file: it is damaged, or of another version."""


def _read(path: Path) -> dict[str, Any]:
    """The state in a file. Raises FileNotFoundError, _UnusableError, or an error that says that memory ran out."""
    with path.open("rb") as file:
        digest, content = file.read(DIGEST), file.read()
    if hashlib.sha256(content).digest() != digest:
        raise _UnusableError("damaged")
    try:
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # torch and zipfile raise errors of many classes
        if lacks_memory(error):
            raise
        raise _UnusableError("of another version") from error
    known = PARTS | LATER
    whole = isinstance(state, dict) and PARTS.keys() <= state.keys() <= known.keys()
    whole = whole and all(isinstance(part, known[name]) for name, part in state.items())
    if not whole or not state["progress"].keys() <= {field.name for field in fields(Progress)}:
        raise _UnusableError("of another version")
    return state


def write_weights(path: Path, weights: dict[str, Tensor]) -> None:
    """Writes safetensors, with a digest of the tensors in its metadata. Raises OSError."""
    plain = {name: tensor.contiguous() for name, tensor in weights.items()}
    write_atomically(path, save(plain, {"digest": digest_of(plain)}))


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a file; files of older versions have no digest. Raises WorkError when it is damaged."""
    try:
        with safe_open(path, "pt") as file:
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no dictionary
            digest = (file.metadata() or {}).get("digest")
        if digest not in (None, digest_of(weights)):
            raise ValueError("they have changed since they were written")
    except Exception as error:  # safetensors raises errors of many classes
        raise WorkError(
            f"no usable weights at {path}: {error}; copy work/ from the machine that trained it, or train it again"
        ) from error
    return weights


def digest_of(weights: dict[str, Tensor]) -> str:
    """16 hexadecimal digits over the names, types, shapes and bytes of tensors, independent of their order."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        tensor = weights[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]
