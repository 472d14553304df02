"""A look inside the attentions of an encoder, trained or fresh, on real samples; computes on the CPU in float64.

    encoders   which encoders, and the samples they read       calls     what each attention receives
    probe      the matrix of any map that is linear in v       numbers   what a matrix is like
    powers, mechanism_parts   powers, gates, scales, agents    findings  all of it, of one encoder
    tables, figures (all encoders), figures_of_one, writing    what is written

A mechanism is read by what it computes: its token-to-token matrix is probed, and parts such as a gate are found by the
names of their parameters. Only MLLA is recognised by its class, because a SiLU follows its gate. Sequences have up to
4,096 tokens. The matrices held at a time take at most 64 MB, and about 0.5 GB with what is computed from them: beyond
that only some rows are read, and a note says so.
"""

from lra.inspect.encoders import InspectError, Subject, fresh, samples, trained
from lra.inspect.findings import examine
from lra.inspect.writing import Written, write

__all__ = ["InspectError", "Subject", "Written", "examine", "fresh", "samples", "trained", "write"]
