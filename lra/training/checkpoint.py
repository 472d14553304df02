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
from lra.training.progress import Progress

PARTS = {"model": dict, "update": dict, "best": dict | None, "progress": dict}  # of a state
LATER = {"gear": dict}  # parts that older states lack


def write_state(newest: Path, before: Path, state: dict[str, Any]) -> None:
    """Writes the digest of a state, then the state; keeps the previous newest file as `before`. Raises OSError."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    content = buffer.getvalue()
    if newest.exists():
        newest.replace(before)  # after a kill from here on, the run resumes from `before`
    write_atomically(newest, hashlib.sha256(content).digest() + content)


def read_state(newest: Path, before: Path) -> dict[str, Any] | None:
    """The newest intact state, on the CPU, or None if there is no file. Prints a line if `newest` is damaged.

    Raises WorkError if no file is intact.
    """
    present = [path for path in (newest, before) if path.exists()]
    for path in present:
        state = _read(path)
        if state is not None:
            if path != present[0]:
                say_once(f"checkpoint {newest} is damaged: the run goes on from the one before, {before.name}")
            return state
    if present:
        raise WorkError(f"checkpoint {present[0]} is corrupt; delete it to start this run again")
    return None


def _read(path: Path) -> dict[str, Any] | None:
    """The state in a file; None where it is damaged or holds something else."""
    content = path.read_bytes()
    if hashlib.sha256(content[32:]).digest() != content[:32]:
        return None
    try:
        state = torch.load(io.BytesIO(content[32:]), map_location="cpu", weights_only=True)
    except Exception:  # torch and zipfile raise errors of many classes
        return None
    known = PARTS | LATER
    whole = isinstance(state, dict) and PARTS.keys() <= state.keys() <= known.keys()
    whole = whole and all(isinstance(part, known[name]) for name, part in state.items())
    return state if whole and state["progress"].keys() <= {field.name for field in fields(Progress)} else None


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
