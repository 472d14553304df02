"""ListOps: nested operations on digits (Nangia and Bowman 2018; Tay et al. 2021)."""
