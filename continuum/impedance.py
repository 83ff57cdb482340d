"""Small alternating potentials on a cell: its impedance from the linearised transport equations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import scipy.sparse as sparse
import xarray as xr
from scipy.sparse.linalg import splu

from continuum.finite_elements import PETSc, compile_form, fem, ufl
from continuum.inputs import FARADAY, Reaction, Solution, Wall
from continuum.meshes import Domain, line, move
from continuum.transport_form import Problem, build
from continuum.transport_problem import (
    System,
    check,
    fill,
    nodes,
    relax,
    start,
    state_of,
    structure,
)


def spectrum(
    solution: Solution,
    walls: Mapping[str, Wall],
    *,
    length: float,
    frequencies: Sequence[float],
    wall: str = "right",
    domain: Domain | None = None,
    reactions: Sequence[Reaction] = (),
    electroneutral: bool = False,
    cells: int = 400,
    degree: int = 2,
    throw: bool = True,
) -> xr.Dataset:
    r"""Impedance of a cell about its steady state, seen from one of its walls.

    With the residual F of the weak form, its Jacobian J and its storage :math:`M = \partial_w
    \int c_i q_i`, a potential :math:`\hat V e^{i\omega t}` added to the wall's moves the unknowns
    by

    .. math::
        (J + i \omega M)\,\hat w = -\frac{\partial F}{\partial V} \hat V, \qquad
        \hat j = i \omega \hat\sigma + F \sum_i z_i \hat N_i, \qquad
        Z = \hat V / \hat j

    with the charge and the fluxes of the wall as consistent residuals. The matrices are exact
    derivatives of the compiled forms; they are factored once a frequency, on the first process.

    Parameters
    ----------
    solution, walls, length, domain, reactions, electroneutral, cells, degree
        As in `continuum.nernst_planck.solve`; the walls' potentials are the bias.
    frequencies : sequence of float
        Frequencies (Hz), positive.
    wall : str
        The wall whose potential oscillates; it must have one.
    throw : bool
        Raise if the steady state is not found; otherwise return with ``converged`` 0.

    Returns
    -------
    xarray.Dataset
        IMPEDANCE: ``resistance`` and ``reactance`` (ohm m2; frequency), the real and imaginary
        parts of Z.

    Raises
    ------
    ValueError
        Lists every fault of the input.
    SolverError
        If there is no steady state and `throw` is set.

    References
    ----------
    Bazant, Thornton, Ajdari 2004, doi:10.1103/PhysRevE.70.021506.
    """
    on_line = domain is None
    walls = {**({"left": Wall(), "right": Wall()} if on_line else {}), **walls}
    check(solution, walls, length, None, domain, reactions, {}, electroneutral)
    hertz = np.asarray(frequencies, dtype=float)
    faults = []
    if wall not in walls or walls[wall].potential is None:
        faults.append(f"wall {wall!r} has no potential that could oscillate")
    elif electroneutral and walls[wall].reaction is None and not walls[wall].concentration:
        faults.append(f"wall {wall!r} blocks, and without a double layer no current passes it")
    if hertz.ndim != 1 or hertz.size == 0 or np.any(~(hertz > 0)) or np.any(np.isinf(hertz)):
        faults.append("frequencies (Hz) must be positive and finite")
    if faults:
        raise ValueError("Impedance: " + "; ".join(faults) + ".")
    if domain is None:
        domain = line(cells)
        move(domain, nodes(solution, walls, length, cells))
    problem = build(structure(solution, walls, domain, reactions, electroneutral, degree))
    scale = fill(problem, solution, walls, length, reactions, electroneutral)
    start(problem, solution, {}, length)
    outcome = relax(System(problem, state_of(problem, solution))).unless_converged(throw=throw)
    admittance = _admittance(problem, solution, wall, 2 * np.pi * hertz * scale)
    # the wall's current: charge in units of eps RT / (F l), flux in F c l / time
    debye_squared = float(problem.numbers["debye_squared"].value)
    unit = solution.ionic_sum * length / scale * FARADAY / solution.thermal_voltage
    total = admittance[1]
    if debye_squared > 0:
        total = total + 2j * np.pi * hertz * scale * admittance[0]
    z = problem.area[wall] / (unit * total)
    return xr.Dataset(
        {
            "resistance": ("frequency", z.real, {"units": "ohm m2"}),
            "reactance": ("frequency", z.imag, {"units": "ohm m2"}),
        },
        coords={"frequency": ("frequency", hertz, {"units": "Hz"})},
        attrs={
            "outcome": outcome.sentence,
            "converged": int(outcome.converged),
            "reference": f"current into the solution through {wall!r}",
        },
    )


def _admittance(
    problem: Problem, solution: Solution, wall: str, omega: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Charge and current of ions (1) at a wall for a unit of its potential, summed over it."""
    problem.numbers["weights"].value[:] = 0.0
    w, comm = problem.unknown, problem.space.mesh.comm
    trial = ufl.TrialFunction(problem.space)
    jacobian = _gather(problem, problem.residual, trial)
    storage = _gather(problem, problem.storage, trial)
    natural = wall in problem.push
    # what passes a wall: its own terms where it has them, free of the cancellation in the sums
    # over thin cells that a held wall must be read from
    passing = _gather(problem, problem.exchange if natural else problem.balance, trial)
    load = np.zeros(problem.space.dofmap.index_map.size_global * _block(problem))
    if natural:
        vector = fem.petsc.assemble_vector(compile_form(problem.push[wall]))
        vector.ghostUpdate(addv=PETSc.InsertMode.ADD, mode=PETSc.ScatterMode.REVERSE)
        load = np.concatenate(comm.allgather(vector.array.copy()))
        vector.destroy()
    fixed = np.unique(
        np.concatenate([_global(problem, c.dof_indices()[0]) for c in problem.newton.conditions])
        if problem.newton.conditions
        else np.empty(0, dtype=int)
    )
    fixed = np.unique(np.concatenate(comm.allgather(fixed))).astype(int)
    block, ions = _block(problem), len(solution.species)
    mine = problem.dofs[wall]
    rows = np.concatenate(comm.allgather(_global(problem, mine * block) // block))
    rows = np.unique(rows).astype(int)
    charge = np.zeros(len(omega), dtype=complex)
    current = np.zeros(len(omega), dtype=complex)
    if comm.rank == 0:
        assert jacobian is not None
        assert storage is not None
        assert passing is not None
        # unknowns mu_i - z_i psi instead of mu_i: neutrality and storage, small differences of
        # large numbers in mu, then keep their digits; held concentrations are held at zero
        change = sparse.identity(jacobian.shape[0], format="lil")
        node = np.arange(jacobian.shape[0] // block) * block
        for i, ion in enumerate(solution.species):
            change[node + i, node + ions] = ion.charge_number
        change = change.tocsr()
        jacobian, storage = jacobian @ change, storage @ change
        passing = passing @ change
        unit = np.zeros(jacobian.shape[0], dtype=complex)
        if not natural:
            unit[rows * block + ions] = 1.0
        free = np.setdiff1d(np.arange(len(unit)), fixed)
        for k, frequency in enumerate(omega):
            matrix = (jacobian + 1j * frequency * storage).tocsc()
            right = -(matrix @ unit) - load
            answer = unit.copy()
            answer[free] = splu(matrix[free][:, free]).solve(right[free])
            if natural:
                passed = -(passing @ answer + load)
            else:
                passed = (passing + 1j * frequency * storage) @ answer
            charge[k] = passed[rows * block + ions].sum()
            for i, ion in enumerate(solution.species):
                current[k] += ion.charge_number * passed[rows * block + i].sum()
    charge, current = comm.bcast((charge, current), root=0)
    w.x.scatter_forward()
    return charge, current


def _block(problem: Problem) -> int:
    return int(problem.space.dofmap.index_map_bs)


def _global(problem: Problem, dofs: np.ndarray) -> np.ndarray:
    """Numbers over all processes of unrolled dofs of this one."""
    block = _block(problem)
    nodes = problem.space.dofmap.index_map.local_to_global(
        (np.asarray(dofs) // block).astype(np.int32)
    )
    return nodes * block + np.asarray(dofs) % block


def _gather(problem: Problem, form: Any, trial: Any) -> sparse.csr_matrix | None:
    """Derivative of a form by the unknowns, whole, on the first process."""
    matrix = fem.petsc.assemble_matrix(compile_form(ufl.derivative(form, problem.unknown, trial)))
    matrix.assemble()
    start_, column, value = matrix.getValuesCSR()
    size = matrix.getSize()[1]
    local = sparse.csr_matrix((value, column, start_), shape=(len(start_) - 1, size))
    matrix.destroy()
    parts = problem.space.mesh.comm.gather(local, root=0)
    return None if parts is None else sparse.vstack(parts).tocsr()
