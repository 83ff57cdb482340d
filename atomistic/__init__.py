"""Atoms to transport coefficients: potentials, molecular dynamics and observables.

Structures are ASE's, models torch-sim's, results xarray Datasets in SI (`schema` says what is in
them). Where to begin:

- `potentials.load.load`: a potential by name, file or import path; `potentials.certificate.certify`
- `dynamics.sample`: many systems in one batch; `trajectories`: those of other codes
- `observables.transport.transport`: a trajectory's transport coefficients, with intervals
- `electrostatics.electrodes`: dynamics between electrodes at constant potential
- `learning`: potentials of your own, from labels or from a teacher
"""
