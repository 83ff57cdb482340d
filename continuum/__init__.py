"""Continuum scale: laws, finite-element solvers and cell models."""
