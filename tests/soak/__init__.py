"""Long tests of what must never be lost: `make soak`. Each part is a file with `run(plan) -> None`; see `__main__`.

    counts    the table of counts, and what is a fault        kinds, sources    the kinds of files that are read
    flips     random bits flipped in each kind                fuzz      words, protocols, records, rows at random
    commands  a command as a process that can be killed       kills     SIGKILL at random moments of grids
    grids     two grids at once on one folder                 disk      a disk that fills up in a checkpoint

A part of another kind (workers of an engine, say) is one more file and one more line in `__main__.PARTS`.
"""
