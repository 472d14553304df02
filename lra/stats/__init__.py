"""What a few seeds say: the noise of an accuracy, and tests of differences. Imports numpy and scipy alone.

accuracy: one accuracy or mean, its interval and noise; two models on the same rows. spread: how much runs differ, from
all rows of a column. differences: rows tested against each other. Accuracies are fractions of 1, intervals 95 %.
To change a test, run `python tests/levels.py` before and after: it measures how often tests err and what they find.
"""
