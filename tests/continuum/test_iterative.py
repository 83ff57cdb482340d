"""Many unknowns: multigrid on each field gives what the direct solver gives, in few iterations."""

from __future__ import annotations

import numpy as np
import pytest

from continuum import nernst_planck as npl
from continuum.finite_elements import MPI
from continuum.inputs import Solution, Species, Wall
from continuum.meshes import block, graded
from continuum.newton import Newton

D = 1e-9
SALT = Solution((Species("cation", 1, 10.0, D), Species("anion", -1, 10.0, D)))


@pytest.mark.parametrize(("dim", "across", "most"), [(2, 16, 20), (2, 32, 20), (3, 6, 35)])
def test_iterations_stay_few_and_the_answer_the_same(monkeypatch, dim, across, most):
    length = 100 * SALT.debye_length
    axes = [np.linspace(0, 1, across + 1)] * (dim - 1) + [graded(2 * across, left=3e-3, right=3e-3)]
    near, far = ("bottom", "top") if dim == 2 else ("front", "back")
    stern = SALT.permittivity / (0.1 * SALT.debye_length)
    walls = {
        near: Wall(potential=4 * SALT.thermal_voltage, stern_capacitance=stern),
        far: Wall(potential=0.0),
    }
    counts = []
    solve_linear = Newton._solve_linear

    def counted(self, b):
        solve_linear(self, b)
        counts.append((self.iterative, self.solver.getIterationNumber()))

    monkeypatch.setattr(Newton, "_solve_linear", counted)

    def run():
        counts.clear()
        domain = block(axes, comm=MPI.COMM_SELF)
        # a share of the relaxation of charge, of salt, and long after both
        times = np.array([1e-3, 1e-1, 10.0]) * length**2 / D
        return npl.solve(
            SALT, walls, length=length, domain=domain, degree=1, times=times, tolerance=1.0
        )

    direct = run()
    assert not any(iterative for iterative, _ in counts)
    monkeypatch.setattr("continuum.newton.DIRECT_LIMIT", 0)
    got = run()
    assert all(iterative for iterative, _ in counts)
    found = [n for _, n in counts]
    assert np.mean(found) <= most and max(found) <= 1.5 * most, found
    np.testing.assert_allclose(got.potential, direct.potential, rtol=0, atol=1e-10)
    held = 10.0 * length**dim
    np.testing.assert_allclose(got.inventory, held, rtol=1e-12)
    # walls are measured in square metres of every dimension
    assert 0 < got.attrs["charge_gap"] < 1e-8


def test_a_linear_solver_that_broke_down_once_spoils_no_later_step(monkeypatch):
    solve_linear = Newton._solve_linear
    calls = []

    def broken_once(self, b):
        calls.append(None)
        if len(calls) == 8:
            self.matrix.scale(np.nan)
        solve_linear(self, b)

    monkeypatch.setattr(Newton, "_solve_linear", broken_once)
    length = 20 * SALT.debye_length
    walls = {"left": Wall(potential=-0.1), "right": Wall(potential=0.1)}
    times = np.array([1.0]) * length * SALT.debye_length / D
    got = npl.solve(SALT, walls, length=length, times=times, tolerance=1e-3)
    assert got.attrs["converged"]
    assert len(calls) > 20
    np.testing.assert_allclose(got.inventory, 10.0 * length, rtol=1e-12)
