"""Experiments: each file has a function `get_config` that returns one."""
