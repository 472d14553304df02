"""One run, from rows to weights: the loop, the step, its gears, and what a run keeps on disk meanwhile."""
