"""Atoms to transport coefficients: potentials, molecular dynamics and observables."""
