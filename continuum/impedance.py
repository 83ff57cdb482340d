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
    derivatives of the compiled forms; they are factored once a frequency, on the first process, and
    the answer is refined with residuals in extended precision: where the layers are thin, double
    precision alone would leave five digits.

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


# corrections of a solve (1): each gains the digits that the factors hold
REFINEMENTS = 8


def _admittance(
    problem: Problem, solution: Solution, wall: str, omega: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Charge and current of ions (1) at a wall for a unit of its potential, summed over it."""
    problem.numbers["weights"].value[:] = 0.0
    w, comm = problem.unknown, problem.space.mesh.comm
    problem.older.x.array[:] = w.x.array
    block, ions = _block(problem), len(solution.species)
    # unknowns mu_i - z_i psi instead of mu_i: neutrality and storage are small differences of
    # large numbers in mu; held concentrations are held at zero
    trial = ufl.TrialFunction(problem.space)
    moved = ufl.as_vector(
        [
            trial[i] + problem.numbers["charge"][i] * trial[ions] if i < ions else trial[i]
            for i in range(block)
        ]
    )

    def change(form: Any) -> sparse.csr_matrix | None:
        return _gather(problem, ufl.derivative(form, w, moved))

    spread = _gather(problem, problem.spread)
    settled, storage = change(problem.settled), change(problem.storage)
    exchange = None if problem.exchange == 0 else change(problem.exchange)
    natural = wall in problem.push
    load = np.zeros(problem.space.dofmap.index_map.size_global * block)
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
    mine = problem.dofs[wall]
    rows = np.concatenate(comm.allgather(_global(problem, mine * block) // block))
    rows = np.unique(rows).astype(int)
    charge = np.zeros(len(omega), dtype=complex)
    current = np.zeros(len(omega), dtype=complex)
    if comm.rank == 0:
        assert spread is not None
        assert settled is not None
        assert storage is not None
        balance = _neutral(spread, block) + settled.astype(np.longdouble)
        storage = storage.astype(np.longdouble)
        whole = balance if exchange is None else balance + exchange.astype(np.longdouble)
        unit = np.zeros(whole.shape[0], dtype=np.clongdouble)
        if not natural:
            unit[rows * block + ions] = 1.0
        free = np.setdiff1d(np.arange(len(unit)), fixed)
        for k, frequency in enumerate(omega):
            matrix = (whole + 1j * frequency * storage).tocsr()
            answer = _refined(matrix, -(matrix @ unit) - load, free, unit)
            if natural:
                # the wall's own terms, free of the cancellation in the sums over thin cells
                assert exchange is not None
                passed = -(exchange @ answer + load)
            else:
                passed = balance @ answer + 1j * frequency * (storage @ answer)
            charge[k] = passed[rows * block + ions].sum()
            for i, ion in enumerate(solution.species):
                current[k] += ion.charge_number * passed[rows * block + i].sum()
    charge, current = comm.bcast((charge, current), root=0)
    w.x.scatter_forward()
    return charge, current


def _neutral(matrix: sparse.csr_matrix, block: int) -> sparse.csr_matrix:
    """A matrix of gradients that leaves constants of each field alone to more than rounding.

    In a thin cell its entries are inverse heights, and their rounding errors a spurious source
    that outweighs the slow, smooth answer: what each row's entries of one field do not add up to
    goes to the entry of its own node.
    """
    exact = matrix.astype(np.longdouble).tocsr()
    node = np.arange(exact.shape[0] // block) * block
    fix = []
    for k in range(block):
        constant = np.zeros(exact.shape[1], dtype=np.longdouble)
        constant[node + k] = 1.0
        excess = exact @ constant
        row = np.arange(len(excess))
        place = (row, row // block * block + k)
        fix.append(sparse.csr_matrix((-excess, place), shape=exact.shape))
    return sum(fix, exact)


def _refined(
    matrix: sparse.csr_matrix, right: np.ndarray, free: np.ndarray, start: np.ndarray
) -> np.ndarray:
    """Solve for the free unknowns: factors in double precision, residuals in extended."""
    inner = matrix[free][:, free]
    factors = splu(inner.astype(complex).tocsc())
    answer, left = np.zeros(len(free), dtype=np.clongdouble), right[free]
    size = np.inf
    for _ in range(REFINEMENTS):
        step = factors.solve(left.astype(complex))
        new = float(np.abs(step).max())
        if not new < 0.5 * size:
            break
        answer, size = answer + step, new
        left = right[free] - inner @ answer
    whole = start.copy()
    whole[free] += answer
    return whole


def _block(problem: Problem) -> int:
    return int(problem.space.dofmap.index_map_bs)


def _global(problem: Problem, dofs: np.ndarray) -> np.ndarray:
    """Numbers over all processes of unrolled dofs of this one."""
    block = _block(problem)
    nodes = problem.space.dofmap.index_map.local_to_global(
        (np.asarray(dofs) // block).astype(np.int32)
    )
    return nodes * block + np.asarray(dofs) % block


def _gather(problem: Problem, form: Any) -> sparse.csr_matrix | None:
    """A bilinear form's matrix, whole, on the first process."""
    matrix = fem.petsc.assemble_matrix(compile_form(form))
    matrix.assemble()
    start_, column, value = matrix.getValuesCSR()
    size = matrix.getSize()[1]
    local = sparse.csr_matrix((value, column, start_), shape=(len(start_) - 1, size))
    matrix.destroy()
    parts = problem.space.mesh.comm.gather(local, root=0)
    return None if parts is None else sparse.vstack(parts).tocsr()
