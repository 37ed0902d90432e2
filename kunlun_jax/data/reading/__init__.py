"""Reads data sets: shards to columns, columns to batches, requests to batches."""
