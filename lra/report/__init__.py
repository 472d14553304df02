"""Records -> comparison tables (Markdown, CSV, LaTeX, JSON), figures and one HTML page.

    load      the records, found and as a flat data frame       groups    sorted into tables
    columns   the one list of columns beside accuracies         cells     a task's column, whose rows are tested
    conditions   what two records must share to be compared
    tables/   each table in words        figures/   each figure        page/   the HTML page
    writing   all of it for these records
    render, latex, export, cite   the files        conventions   what is shown first, and averaged

To add a column, add a line to `columns.COLUMNS`. The report imports results, stats, errors and hashing; no torch, no
zoo, no tasks: whatever it says of a row is in the row's records.
"""

from lra.report.load import frame, read
from lra.report.writing import Report, terminal, write

__all__ = ["Report", "frame", "read", "terminal", "write"]
