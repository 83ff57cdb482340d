"""Interatomic potentials: load one by name, file or import path."""
