"""`--engine ray`: the runs of a grid on the nodes of a Ray cluster.

`connect` finds the cluster and what it has. `engine` chooses which run is under way, and moves one whose node is lost.
`order` is what travels: a run as the beginning of its record, and the files that it ends with. `node` is the actor that
starts a process on a node for one run, and `run_process` is that process. Only `connect` imports Ray.
"""
