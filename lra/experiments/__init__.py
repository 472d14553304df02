"""What to run: a request becomes runs, a run on disk is a job, and a grid of jobs is trained and tested.

Read `plan`, `grid`, `job` and `train_and_test` in this order.

    plan   run   job   grid   train_and_test     from a request to records
    build   backbone   data   match              a run's model and its data
    sweep   pretrain   blind                     what is trained before a run
    engine   board   local/   cluster/   slurm   where runs are done, and how far they are
    background_compiler   packed   spawn         processes beside a run
    status   load   trust   fresh_state          runs that are there: how far, read again, with whose code
    rung_networks                                small networks as trivial baselines

`build` makes a model for a task from the zoo and the backbones; whatever else needs one asks it. This package may not
import `report`.
"""
