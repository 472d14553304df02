"""The report as one page, report.html: `html` collects what the templates show, each other file is one part of it."""
