"""Retrieval: does one ACL paper cite the other? Both as bytes (Radev et al. 2013; Tay et al. 2021)."""
