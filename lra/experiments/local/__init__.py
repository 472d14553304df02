"""Several processes of this machine: one run in each of them, or several that share a run.

`crew` decides how many workers there are and how many of them share a run. `workers` is the engine: it hands out the
runs. `team` holds the workers that share a run, as the engine sees them. `worker` is one of them, in its own process.
"""
