"""What is kept: records of runs and of benches, and what they say of the machine."""
