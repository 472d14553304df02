"""The commands of the command line, one module each.

A module's docstring is its help, `add(parser)` declares its arguments, `main(parsed)` does the work and returns the
exit code (0: done; 1: something failed or is unreadable; 75: not all is done, and nothing failed). At import a module
needs the standard library only. To add a command, write its module and add its name below. `choice`, `ahead`,
`environment`, `output`, `streams`, `zoo_page` and `settings_page` are pieces of commands.
"""

NAMES = (
    "run",
    "status",
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
    "gpu",
)
