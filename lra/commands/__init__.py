"""The commands of the command line, one module each.

A module's docstring is its help, `add(parser)` declares its arguments, `main(parsed)` does it and returns the exit code
(0: done; 1: something failed or is unreadable). At import a module brings in the standard library only.
"""

NAMES = (
    "run",
    "report",
    "bench",
    "inspect",
    "check",
    "new-attention",
    "list",
    "data",
    "protocol",
    "cite",
    "audit",
)
