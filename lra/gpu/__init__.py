"""One GPU for a short time: what is worth doing with it, in that order. Each part is a command, and useful by itself.

First the tests that need a GPU, then the time and memory of a step, then runs: task by task, seed by seed. A part that
uses up its budget is stopped; what it has written stays. A part that is done is not done again, and a run that was
stopped goes on, so the same command can be given until everything is done. The report and a summary come last, always.

`plan` lists the parts, `carry_out` runs them, `summary` writes their results.
"""
