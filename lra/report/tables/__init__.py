"""The report's tables, one kind per file.

A new kind is a file here with a function that returns a `Table`; `export` and `page.html` write it.
"""
