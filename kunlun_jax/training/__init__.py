"""Training: optimizer, step, metrics, checkpoints, loop."""
