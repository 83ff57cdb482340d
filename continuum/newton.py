"""Newton's method on a compiled residual, with updates clipped component by component."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count
from typing import Any

import numpy as np

from continuum.finite_elements import MPI, PETSc, compile_form, fem, ufl
from continuum.outcome import Outcome

_prefixes = count()

DIRECT = {"ksp_type": "preonly", "pc_type": "lu", "pc_factor_mat_solver_type": "mumps"}

# unknowns in two or three dimensions above which multigrid is quicker (measured)
DIRECT_LIMIT = 30_000
# last update (1) below which an iterative solver keeps its preconditioner
NEAR = 0.3


def linear_solver(space: Any) -> dict[str, Any]:
    """PETSc options for a blocked space: a direct solver, or an iterative one for many unknowns.

    The blocks of electrochemical potentials are elliptic one by one, so that one multigrid cycle
    for each, swept in turn, is a preconditioner that does not age with the mesh. Its smoother is
    an incomplete factorisation, which takes the flat cells at a wall as they are; pointwise
    smoothers need coarsening along strong couplings instead, and in three dimensions that fills
    the coarse matrices.
    """
    block, dim = space.dofmap.index_map_bs, space.mesh.topology.dim
    if dim == 1 or space.dofmap.index_map.size_global * block < DIRECT_LIMIT:
        return dict(DIRECT)
    options = {
        "ksp_type": "gmres",
        # Newton's error falls by this factor at best in one iteration: four of them reach the end
        "ksp_rtol": 1e-4,
        "ksp_gmres_restart": 60,
        "ksp_max_it": 300,
        "pc_type": "fieldsplit",
        "pc_fieldsplit_type": "multiplicative",
        "pc_fieldsplit_block_size": block,
    }
    for k in range(block):
        options[f"pc_fieldsplit_{k}_fields"] = str(k)
        for key, value in {
            "ksp_type": "preonly",
            "pc_type": "gamg",
            "pc_gamg_threshold": 0.02 if dim == 2 else 0.0,
            # aggregates of a short step's matrix, nearly diagonal, are no use to a longer one
            "pc_gamg_reuse_interpolation": False,
            "mg_levels_ksp_type": "richardson",
            "mg_levels_ksp_max_it": 1,
            "mg_levels_pc_type": "bjacobi",
            "mg_levels_sub_pc_type": "ilu",
        }.items():
            options[f"fieldsplit_{k}_{key}"] = value
    return options


class Newton:
    r"""Solve :math:`F(w; v) = 0` for all :math:`v` by :math:`J(w)\,\Delta = F(w)`, w := w - Δ.

    Potentials and electrochemical potentials enter through exponentials, so that the full step
    overshoots from a cold start: each component of Δ is cut to ``clip``, which is inactive near
    the solution and leaves the quadratic convergence alone. The iteration stops when the largest
    component of Δ is below ``tolerance``: the residual of a graded mesh spans too many decades to
    be a measure.

    Parameters
    ----------
    residual : ufl.Form
        F, linear in one test function.
    unknown : dolfinx.fem.Function
        w; its values are the initial guess, and the answer.
    conditions : sequence of dolfinx.fem.DirichletBC
        Values held on boundaries.
    clip : float
        Largest change (1) of a component in one iteration.
    tolerance : float
        Largest component (1) of the last update.
    limit : int
        Most iterations (1).
    convex : bool
        Whether F is the gradient of a convex energy: the step then stops where the slope of the
        energy along it changes sign, which converges from any start.
    options : dict, optional
        PETSc options of the linear solver; a direct one if not given.
    substitution : callable, optional
        Gives a matrix S, or None: the linear solver then sees J S y = F, and Δ = S y.
    """

    def __init__(
        self,
        residual: Any,
        unknown: Any,
        *,
        conditions: Sequence[Any] = (),
        clip: float = 2.0,
        tolerance: float = 1e-9,
        limit: int = 80,
        convex: bool = False,
        options: dict[str, Any] | None = None,
        substitution: Callable[[], Any] | None = None,
    ) -> None:
        self.space = space = unknown.function_space
        self.unknown, self.conditions = unknown, list(conditions)
        self.substitution = substitution
        self.clip, self.tolerance, self.limit, self.convex = clip, tolerance, limit, convex
        self.residual = compile_form(residual)
        self.jacobian = compile_form(ufl.derivative(residual, unknown, ufl.TrialFunction(space)))
        self.matrix = fem.petsc.create_matrix(self.jacobian)
        self.comm = space.mesh.comm
        self._prefix = f"newton_{next(_prefixes)}_"
        given = PETSc.Options()
        chosen = DIRECT if options is None else options
        for key, value in chosen.items():
            given[self._prefix + key] = value
        self.iterative = chosen.get("ksp_type") != "preonly"
        # parts of the solver read theirs only when it is first used: they stay until its end
        self._options = [self._prefix + key for key in chosen]
        self._prepare()

    def _prepare(self) -> None:
        """Make a linear solver and its vectors: at first, and after one that stopped.

        PETSc leaves the vectors of a solver that stopped locked, and its preconditioner unusable.
        """
        for name in ("solver", "vector", "update"):
            if (old := getattr(self, name, None)) is not None:
                old.destroy()
        self.vector = fem.petsc.create_vector(self.space)
        self.update = self.vector.duplicate()
        self.solver = PETSc.KSP().create(self.comm)
        self.solver.setOptionsPrefix(self._prefix)
        self.solver.setOperators(self.matrix)
        self.solver.setFromOptions()

    def assemble_residual(self) -> Any:
        """Return F(w) with the rows of held values set to what they are off by."""
        b = self.vector
        with b.localForm() as local:
            local.set(0.0)
        fem.petsc.assemble_vector(b, self.residual)
        x = self.unknown.x.petsc_vec
        fem.petsc.apply_lifting(b, [self.jacobian], [self.conditions], x0=[x], alpha=-1.0)
        b.ghostUpdate(addv=PETSc.InsertMode.ADD, mode=PETSc.ScatterMode.REVERSE)
        fem.petsc.set_bc(b, self.conditions, x, -1.0)
        return b

    def assemble_jacobian(self) -> Any:
        """Return J(w) with unit rows for held values."""
        self.matrix.zeroEntries()
        fem.petsc.assemble_matrix(self.matrix, self.jacobian, bcs=self.conditions)
        self.matrix.assemble()
        return self.matrix

    def solve(self) -> Outcome:
        """Iterate from the present values of the unknown; leave the last iterate in it."""
        self.unknown.x.scatter_forward()
        largest = np.inf
        for iteration in range(1, self.limit + 1):
            b = self.assemble_residual()
            self.assemble_jacobian()
            # near the solution the matrix changes too little to build its preconditioner anew
            self.solver.getPC().setReusePreconditioner(self.iterative and largest < NEAR)
            try:
                self._solve_linear(b)
            except PETSc.Error as error:
                self._prepare()
                return self._failed(iteration, f"the linear solver stopped ({error})")
            step = self.update.array
            reason = self.solver.getConvergedReason()
            local = float(np.abs(step).max(initial=0.0))
            # nan compares false everywhere: make it infinite before the ranks compare
            largest = self.comm.allreduce(local if np.isfinite(local) else np.inf, op=MPI.MAX)
            if reason < 0 or not np.isfinite(largest):
                self._prepare()
                return self._failed(
                    iteration, f"the linear solver diverged (PETSc reason {reason})"
                )
            change = np.clip(step, -self.clip, self.clip)
            if self.convex and largest > 1e-3:
                change *= self._length(change)
            self.unknown.x.array[: len(step)] -= change
            self.unknown.x.scatter_forward()
            if largest < self.tolerance:
                return Outcome(
                    True,
                    f"converged in {iteration} Newton iterations, last update {largest:.1e}",
                    iteration,
                )
        return self._failed(self.limit, f"the last update was still {largest:.1e}")

    def _solve_linear(self, b: Any) -> None:
        """Put the solution of J Δ = b into the update."""
        change = None if self.substitution is None else self.substitution()
        if change is None:
            self.solver.setOperators(self.matrix)
            self.solver.solve(b, self.update)
            return
        product = self.matrix.matMult(change)
        product.setBlockSize(self.matrix.getBlockSize())
        self.solver.setOperators(product)
        answer = self.update.duplicate()
        self.solver.solve(b, answer)
        change.mult(answer, self.update)
        answer.destroy()
        product.destroy()

    def _length(self, change: np.ndarray) -> float:
        """Share of the change after which the energy stops falling along it, by secants."""
        start = self.unknown.x.array[: len(change)].copy()
        first = self.comm.allreduce(float(self.vector.array @ change))
        share = 1.0
        for _ in range(8):
            self.unknown.x.array[: len(change)] = start - share * change
            self.unknown.x.scatter_forward()
            slope = self.comm.allreduce(float(self.assemble_residual().array @ change))
            if slope > -0.5 * first:
                break
            # a slope that overflowed says only that the step is far too long
            share *= max(first / (first - slope), 0.05) if np.isfinite(slope) else 0.05
        self.unknown.x.array[: len(change)] = start
        return share

    def _failed(self, iteration: int, why: str) -> Outcome:
        return Outcome(
            False, f"Newton did not converge in {iteration} iterations: {why}", iteration
        )

    def __del__(self) -> None:
        given = PETSc.Options()
        for key in getattr(self, "_options", ()):
            given.delValue(key)
        for name in ("solver", "matrix", "vector", "update"):
            if (held := getattr(self, name, None)) is not None:
                held.destroy()
