"""The columns of a data set as they lie in one file that is mapped, not read."""
