"""The edge: the training loop, its files, its display and its pictures."""
