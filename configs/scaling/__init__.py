"""Scaling studies: each file has a function `get_config` that returns one."""
