"""What to run: a request becomes runs, a run on disk is a job, and a grid of jobs is trained and tested.

Read `plan`, `grid`, `job` and `train_and_test` in this order. This is the only room that sees the zoo, the tasks and the
backbones, and `build` is the one file of it where they meet. It may not import `report`.
"""
