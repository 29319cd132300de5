"""Measurements: all sides in one process on the same weights, medians of repeats, ratios. `python -m benchmarks --help`."""
