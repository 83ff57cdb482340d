"""Continuum scale: laws, finite-element solvers and cell models.

A solver takes what is in `inputs`, in SI, and returns a Dataset (`schema`) with an outcome in a
sentence. Where to begin:

- `double_layer`: closed forms of Gouy, Chapman, Stern and their successors
- `poisson_boltzmann.solve`, `nernst_planck.solve`, `impedance.spectrum`: ions between walls
- `conduction.conduct`, `concentrated.polarise`: solid and concentrated electrolytes under current
- `cell.discharge`, `cell.impedance`: PyBaMM's cells; `cell_solution.as_dataset`: any solution of it
- `cell_modes.ModalSPMe`: an SPMe whose reaction is uneven, for PyBaMM; close to P2D
- `laws`: properties as functions of (c, T) that all of these evaluate alike
"""
