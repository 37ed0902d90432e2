"""Writes data sets: shards, what they add up to, and the directory they become."""
