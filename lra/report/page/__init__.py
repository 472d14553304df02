"""The report as one page, report.html."""
