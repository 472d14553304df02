"""The bench: time, memory and operations of attentions against length, each measured in a process of its own.

`runner` plans the timings, `processes` starts them, `measure` times one, `workload` and `samples` say what it runs on.
`yardstick` sets our training step against `baseline` in interleaved rounds, `flops` counts operations, `idle` holds the
lock on the device. May import experiments and everything below it; `testing` counts operations with it.
"""
