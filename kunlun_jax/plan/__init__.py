"""What a training step needs on a machine that is not there: memory, operations, time."""
