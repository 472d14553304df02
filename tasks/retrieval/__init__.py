"""Retrieval: does the first of two ACL papers cite the second? Both as bytes (Radev et al. 2013; Tay et al. 2021)."""
