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


LONGER = "A sequence longer than the mechanism is built for is an error; all others are computed as before."
CHANGES = (
    Change(
        file="bigbird.py",
        now="37a9ceb5e71fed8c4be187701e24a589c7b2b1ab98d66737f0db5ebda07b84ec",
        recorded="ae3517512559bd7822272e56754ea344d3340699bf9ab84189d5d34c8e75b9ee",
        why="A neighbour that does not count is block 0, masked as before; a sequence that is too long is an error.",
    ),
    Change(
        file="fnet.py",
        now="173f73fabb3c165a55ebdeacbb2780e842bf8d1a4e8234b856ffa4e38cfcbd61",
        recorded="7727a734665d9c44f76c46dce842d30255e3bff67ecc104db8a3b02fab5ef5e5",
        why=LONGER,
    ),
    Change(
        file="_kernels.py",
        now="b54f8c306ace7d24ca7857ec2158b4f944ac8879e684f0571fefa21e2d7d785b",
        recorded="7d6902b008994fa01deb0ed73dd7096b461f01edcce8e7fed00979c252e46bcb",
        why="The gradients can be differentiated again; outputs and first gradients are computed as before.",
    ),
    Change(
        file="flatten.py",
        now="83f493938f8e3233d72fe9cc1b4bda01c568445c8e6549ef18c417e55db08520",
        recorded="24a75a079ca308f8052c226a1f357c7dfb9eeb7134111ebac111a2aa24e886a1",
        why="Powers above 3 divide by the largest channel first and do not underflow; no run with one is recorded.",
    ),
    Change(
        file="_parts.py",
        now="1ee5d42fd19aa1c5ccf062a8964e5733dbe8deb42410f7f118fa19600a78dc69",
        recorded="f1421a579b7917562130810605c389763da832dbec848056419ca09a96ac21f3",
        why=f"{LONGER} Rotary angles of float64 inputs are computed in float64; those of other inputs are as before.",
    ),
    Change(
        file="performer.py",
        now="88fd16ebc09258dbf7b22e81079d46a2def60d2e635d7b3e068bcc0bad395fa7",
        recorded="3b12d97759f61d7af7ad74ebb07a4a5d7a2a5875ee091370ce77da160d0aba12",
        why=LONGER,
    ),
    Change(
        file="sinkhorn.py",
        now="da1263c23e8e561f142d413550baf03478fb18e1e5bdd8f90007531bb9ebba43",
        recorded="c9f5484baaeead649a81cec9fafcb355079bb162ee23dc2e20e4493a1e97c459",
        why=LONGER,
    ),
    Change(
        file="sparse.py",
        now="3d55e2e9d385aaca96f724a0d158daa5baa94fdfa410452f50fe35098532cae9",
        recorded="5e766803296658bd869e35b736221f83230d64e1f3c9a7d69ca91827e268a706",
        why="Options that the strided pattern does not have are refused with it; nothing is computed differently.",
    ),
    Change(
        file="pola.py",
        now="0cadfa0ec9e81b0cfc19b14d7c004ac074c0f2f7171ce3c30b45ad626834fc8d",
        recorded="d87f9ce6f86087100374d7c9b008984d8b1b70f5b3d811f7f11aa6aea15a2430",
        why=LONGER,
    ),
)
RECORDED = {bytes.fromhex(change.now): bytes.fromhex(change.recorded) for change in CHANGES}
