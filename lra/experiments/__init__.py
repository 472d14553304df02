"""What to run: a request becomes runs, a run on disk is a job, and a grid of jobs is trained and tested.

Read `plan`, `grid`, `job` and `train_and_test` in this order. `build` makes a model for a task from the zoo and the
backbones; whatever else needs one asks it. This package may not import `report`.
"""
