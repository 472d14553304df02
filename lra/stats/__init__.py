"""Statistics over a few seeds: the noise of an accuracy, and tests of differences. Imports only numpy and scipy.

accuracy: one accuracy or mean, its interval and noise; two models on the same rows. spread: how much runs differ, from
all rows of a column. differences: rows tested against each other. Accuracies are fractions of 1, intervals 95 %.
To change a test, run `python tests/levels.py` before and after: it measures how often the tests err, and how often
they find a true difference.
"""
