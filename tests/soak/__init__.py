"""`make soak`: long tests that no record or checkpoint is ever lost or wrong. `__main__` runs the parts.

A part is a file with `run(plan) -> None`; counts, kinds, sources and commands are what the parts share.

    counts    the table of counts, and what is a fault        kinds, sources    the kinds of files that are read
    flips     random bits flipped in each kind                fuzz      words, protocols, records, rows at random
    commands  a command as a process that can be killed       kills     SIGKILL at random moments of grids
    grids     two grids at once on one folder                 disk      a disk that fills up in a checkpoint

A new part, such as the workers of an engine, is a new file and an entry in `__main__.PARTS`.
"""
