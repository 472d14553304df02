"""Pathfinder: are two dots joined by a dashed path? (Linsley et al. 2018; Tay et al. 2021)."""
