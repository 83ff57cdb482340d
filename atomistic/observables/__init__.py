"""Trajectories to observables: transport coefficients and structure, each with its error."""
