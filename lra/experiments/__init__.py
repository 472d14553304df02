"""What to run: a request becomes runs, a run on disk is a job, and a grid of jobs is trained and tested.

Read `plan`, `grid`, `engine`, `job` and `train_and_test` in this order, then `lra.training.loop`. To debug all of it in
one process: `--jobs 1 --processes 1`.

    plan   run   job   grid   train_and_test     from a request to records
    build   backbone   data   match   prepared   a run's model and its data
    sweep   pretrain   blind                     what is trained before a run
    engine   board   local/   cluster/   slurm   where runs are executed, and their progress
    background_compiler   packed   spawn         processes beside a run
    fresh_state                                  PyTorch's settings during a run, the caller's random numbers
    status   load   trust                        runs on disk: their states, their models, whose code may be imported
    rung_networks                                small networks as trivial baselines

Only `build` makes a model from the zoo and the backbones; other modules call it. This package may not import
`report`.
"""
