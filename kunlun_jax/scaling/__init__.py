"""Scaling studies: runs of many sizes, and the laws that fit them (docs/model.md#scaling-law).

Imports nothing: the program sets the allocator before JAX is imported.
"""
