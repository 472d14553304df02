"""What a setting does to accuracy: historic quirks switched on one at a time, and any settings side by side.

`faults` knows those of earlier suites, `quirks` measures them; `settings` compares what the user names. This
package may import what commands may, but no command.
"""
