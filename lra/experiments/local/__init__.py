"""Several processes of this machine: one run in each of them, or several that share a run.

`crew` says how many workers there are and which runs they share. `workers` is the engine: it hands out the runs. A
`team` is the workers that share a run, as the engine sees them, and `worker` is one of them, in its own process.
"""
