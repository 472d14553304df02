"""What to run: plans, single runs, grids, sweeps; the only room that sees the zoo, the tasks and the backbones."""
