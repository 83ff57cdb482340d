"""Coulomb sums in cells and slabs, and electrodes held at a potential."""
