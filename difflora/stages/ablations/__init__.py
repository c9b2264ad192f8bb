"""Ablations (paper, Table 3, and our own): the same chain with one thing changed, on the same people and seeds."""
