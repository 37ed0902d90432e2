"""Shortcut audit: what counting reaches, and what a trained model loses without order and time."""
