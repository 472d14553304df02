"""What to run: a request becomes runs, a run on disk is a job, and a grid of jobs is trained and tested.

Read `plan`, `grid`, `job` and `train_and_test` in this order. No other room sees the zoo, the tasks and the backbones
together, and here they meet in `build` alone. This room may not import `report`.
"""
