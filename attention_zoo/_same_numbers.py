"""Changes of code that change no number, so that the runs recorded before them keep their identity.

The source hash of a mechanism covers its code, so edited code is another mechanism and its runs are done again. A
change that provably leaves the numbers of every recorded run as they were, bit for bit, is entered here: the code as it
is now counts as the code that the records name. An entry holds for one text of a file. When the file is edited again,
its entry no longer applies and a test fails: show again that no number changes and renew `now`, or delete the entry.
"""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Change:
    """A change of one file's code.

    file: of this folder. now, recorded: SHA-256 of its code (`code_of`), as it is and as the records have it. why: the
    reason why no recorded number changes.
    """

    file: str
    now: str
    recorded: str
    why: str


CHANGES = (
    Change(
        file="bigbird.py",
        now="1ec931d58a01af8fdbd2505d2e2f1a44a510a74c9a7874a0d5d14edc4add3696",
        recorded="ae3517512559bd7822272e56754ea344d3340699bf9ab84189d5d34c8e75b9ee",
        why="A neighbour that does not count is block 0, masked as before; torch.compile failed on CUDA for a clamp.",
    ),
    Change(
        file="fnet.py",
        now="3d58f180d13b2f23db65cd832e6c2e17b69d6faaf5bc461e0fc5217f6ded5445",
        recorded="7727a734665d9c44f76c46dce842d30255e3bff67ecc104db8a3b02fab5ef5e5",
        why="A sequence longer than the mechanism is built for is an error; all others are computed as before.",
    ),
    Change(
        file="_kernels.py",
        now="b54f8c306ace7d24ca7857ec2158b4f944ac8879e684f0571fefa21e2d7d785b",
        recorded="7d6902b008994fa01deb0ed73dd7096b461f01edcce8e7fed00979c252e46bcb",
        why="The gradients can be differentiated again; outputs and first gradients are computed as before.",
    ),
    Change(
        file="flatten.py",
        now="6dfb7c1cea0590376a401e5cd39bbd853a01d1f4b1741dfd657c50476cd2d9a2",
        recorded="24a75a079ca308f8052c226a1f357c7dfb9eeb7134111ebac111a2aa24e886a1",
        why="Powers above 3 divide by the largest channel first and do not underflow; no run with one is recorded.",
    ),
)
RECORDED = {bytes.fromhex(change.now): bytes.fromhex(change.recorded) for change in CHANGES}
