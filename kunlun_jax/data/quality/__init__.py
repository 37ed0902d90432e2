"""Checks of data sets: contradictions, leaks, drift; and the card that shows them."""
