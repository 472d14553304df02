"""`--engine ray`: the runs of a grid on the nodes of a Ray cluster.

`connect` connects to the cluster and reads its resources. `engine` starts the runs, and moves a run whose node is lost.
`order` defines what travels: a run as a record without results, and the files that it ends with. `node` is the actor
that starts a process on a node for one run, and `run_process` is that process. Only `connect` imports Ray.
"""
