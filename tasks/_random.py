"""Random numbers by counter: a number of a stream is a pure function of the stream's name, the item and the draw.

The generator is splitmix64 (Steele et al. 2014, https://doi.org/10.1145/2660193.2660195), in integers only, so that the
same name gives the same bytes on every machine and with any number of threads. It is compiled with numba: see `_numba`
before you change it.
"""

import hashlib

import numpy as np
from numba import njit

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
U27, U30, U31, U32 = (np.uint64(shift) for shift in (27, 30, 31, 32))
MIX1, MIX2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


def stream_of(name: str) -> np.uint64:
    """The number of a random stream: 64 bits of a hash of its name."""
    return np.uint64(int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little"))


@njit(cache=True, nogil=True)
def mix(state):
    """The output function of splitmix64: uint64 -> uint64."""
    z = (state ^ (state >> U30)) * MIX1
    z = (z ^ (z >> U27)) * MIX2
    return z ^ (z >> U31)


@njit(cache=True, nogil=True)
def below(word, bound):
    """The upper half of a random word -> uniform in 0 ... bound - 1; its lower bits stay free for other use."""
    return np.int64(((word >> U32) * np.uint64(bound)) >> U32)


@njit(cache=True, nogil=True)
def start_of(stream, index):
    """The generator's state for item `index` of a stream."""
    return mix(np.uint64(stream) + mix(np.uint64(index) * GOLDEN))
