"""Image: CIFAR-10 as a sequence of grey pixels (Krizhevsky 2009; Tay et al. 2021)."""
