"""Records of runs and of benches, the facts about the machine in them, and files that are written whole or not at all.

To keep one more fact of a run, add a field to `record.Record`. `layout` says which files an output folder has. This
package imports console, errors, hashing and signals.
"""
