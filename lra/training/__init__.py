"""One run, from rows to weights.

loop calls step. step calls a gear (eager, compiled or captured; gearbox holds the one in use) twice: `gradients` for a
batch, then `move`, which calls the optimiser.
batches says which rows a step reads, and loading makes tensors of them. distributed is the group of processes,
run_folder the files on disk.

To add a gear, subclass `eager.Eager`; all gears must give the same gradients (tests/test_gears.py). This package
imports config, results, console, hashing, signals and errors only.
"""
