"""Training compact potentials from large ones."""
