"""What makes rows fair to compare: sizes, convolution, precision, learning rate, tuning, fidelity, cost."""

from lra.report import columns
from lra.report.groups import Group
from lra.report.render import Table, table

LEGEND = (
    "Parameters: all of them, those outside the embeddings, and those of the attention modules. Taps: the width of "
    "the local convolution beside the attention. Tuning: how many values were tried for each mechanism, on a pilot "
    "seed. Learned: runs that did better than a constant answer by more than noise. Peak GB: the most memory that "
    "the process of a run held, on the machine that most runs were made on; on a CPU with what it held before, such "
    "as data that the same command had prepared, so that it is an upper bound. ms/step at 4K: a training step of 4,096 "
    "or 4,000 tokens, measured by the command bench on that machine. Fidelity: official, as in the paper; adapted, "
    "with a difference that the list of rows names; control, no mechanism; user's, a file of yours. A range covers all "
    "runs and tasks of a row."
)


def given(group: Group) -> Table:
    """A line per row, less the columns that no row fills."""
    shown = columns.shown_in(columns.GIVEN)
    body = [[row, *(column.text(columns.row_of(group, row)) for column in shown)] for row in group.rows]
    header = ["Attention", *(column.heading for column in shown)]
    return table("What each row was given", header, body, note=LEGEND).trimmed()
