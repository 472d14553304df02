"""The commands of the command line, one module each.

A module's docstring is its help, `add(parser)` declares its arguments, `main(parsed)` does the work and returns the
exit code (0: done; 1: something failed or is unreadable; 75: unfinished, but nothing failed). Importing a command needs
no third-party package. To add a command, write its module and add its name below. The other modules (`choice`, `ahead`,
`environment`, `output`, `streams`, `zoo_page` and `settings_page`) are parts of commands.
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
