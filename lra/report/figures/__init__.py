"""The report's figures, one kind a file, in one style."""
