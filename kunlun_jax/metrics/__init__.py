"""Metrics: what devices accumulate and merge, and the statistics of comparisons."""
