"""A plan for one GPU that is available for a short time. Each part is a command that is useful by itself.

First come the tests that need a GPU, then the time and memory of a step, then runs: seed by seed, all tasks of a seed
before the next one. A part that uses up its budget is stopped, and what it has written is kept. The same command skips
parts that are done and continues stopped runs, until everything is done. It always ends with the report and a summary.

`plan` lists the parts, `carry_out` runs them, `summary` writes their results.
"""
