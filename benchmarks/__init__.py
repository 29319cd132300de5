"""Measurements: all sides in one process, on the same weights, in turns. `python -m benchmarks --help`."""
