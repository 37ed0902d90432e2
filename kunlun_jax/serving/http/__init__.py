"""A trained run behind HTTP: JSON in, probabilities out."""
