"""Probability maps of single networks, kept on disk."""
