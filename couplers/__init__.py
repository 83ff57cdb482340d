"""From Datasets to the inputs of the next scale, with their uncertainty.

`contract.check` is the gate that every Dataset passes. Where to begin:

- `electrolyte.single_ion_electrolyte`, `electrolyte.binary_electrolyte`: from TRANSPORT
- `battery.parameter_values`, `bpx.to_bpx`: an Electrolyte to a PyBaMM cell, or to a file
- `propagation`, `uncertainty.budget`: draws through a solver, and where the spread comes from
- `double_layer.interface`, `matching.match`: profiles and capacitances to an inner layer
- `electrode`, `kinetics`: energies to potentials and rates
- `residual`: the voltage of a P2D from an SPMe
"""
