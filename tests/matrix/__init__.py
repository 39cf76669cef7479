"""The kubectl matrix: the same commands straight to a cluster and through kas, and what they print and end with, side by side."""
