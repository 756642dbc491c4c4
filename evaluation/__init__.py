"""Whole data sets through trained networks: picks, scores, pictures."""
