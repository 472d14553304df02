"""What is kept: records of runs and of benches, what they say of the machine, and files that are written whole.

To keep one more fact of a run, add a field to `record.Record`. `layout` says which files an output folder has. This
package imports console, errors, hashing and signals.
"""
