"""What a setting does to accuracy: historic quirks switched on one at a time, and any settings side by side.

`faults` lists the quirks of earlier suites, `quirks` measures them, and `settings` compares the values that the user
gives. This package may import what commands may, but no command.
"""
