"""Several processes of one run: how they meet, stop together, and notice a loss."""
