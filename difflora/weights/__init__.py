"""Weights that users bring: what there must be, under which licence, and whether a file is the one it should be."""
