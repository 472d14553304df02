"""The bench: time, memory and operations of attentions against length, each measured in a process of its own.

`runner` plans the timings and starts the processes, `measure` times one, `workload` says what it runs on. `yardstick`
sets our training step against `baseline` in interleaved rounds, `flops` counts operations, `idle` holds the lock on the
device. May import experiments and everything below it; `testing` counts operations with it.
"""
