"""Text: IMDb reviews as bytes (Maas et al. 2011; Tay et al. 2021)."""
