"""Searches settings of a run by Optuna: every trial is an ordinary run (docs/tuning.md).

Imports nothing: the program sets the allocator before JAX is imported.
"""
