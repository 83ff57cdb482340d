"""Poisson-Boltzmann against closed forms, manufactured solutions and shell theorems."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.constants import Avogadro, epsilon_0, gas_constant

from continuum import double_layer as dl
from continuum import poisson_boltzmann as pb
from continuum.finite_elements import MPI, fem, ufl
from continuum.inputs import Solution, Species, Wall
from continuum.meshes import block, graded
from continuum.outcome import Outcome, SolverError
from continuum.schema import FIELD


def _salt(concentration: float = 10.0, z: float = 1.0, diameter: float = 0.0) -> Solution:
    return Solution(
        (
            Species("Na", z, concentration, diameter=diameter),
            Species("Cl", -z, concentration, diameter=diameter),
        )
    )


SALT = _salt()
VOLT = SALT.thermal_voltage
CALCIUM = Solution((Species("Ca", 2, 5.0), Species("Na", 1, 7.0), Species("Cl", -1, 17.0)))
UNEQUAL = Solution(
    (Species("Li", 1, 1000.0, diameter=4e-10), Species("PF6", -1, 1000.0, diameter=7e-10)),
    solvent_diameter=3.1e-10,
)


def _errors(solution: Solution, wall: Wall) -> tuple[float, float, float, int]:
    """Largest error of phi (V), relative errors of charge and capacitance, Newton iterations."""
    got = pb.solve(solution, {"left": wall})
    zeta = pb._zeta(solution, wall)
    layer = dl.capacitance(solution, zeta)
    if wall.stern_capacitance is not None:
        layer = 1 / (1 / layer + 1 / wall.stern_capacitance)
    near = got.x.values < 25 * solution.debye_length
    exact = dl.profile(solution, got.x.values[near], potential=zeta)
    return (
        np.abs(got.potential.values[near] - exact).max(),
        abs(float(got.surface_charge[0]) / float(dl.surface_charge(solution, zeta)) - 1),
        abs(float(got.differential_capacitance[0]) / float(layer) - 1),
        got.attrs["newton_iterations"],
    )


@pytest.mark.parametrize(
    ("zeta", "volts", "rest"),
    [(1, 1e-8, 1e-6), (-5, 1e-8, 1e-6), (20, 1e-8, 1e-6), (-40, 1e-7, 1e-5)],
)
def test_gouy_chapman(zeta, volts, rest):
    phi, charge, capacitance, iterations = _errors(SALT, Wall(potential=zeta * VOLT))
    assert phi < volts and charge < rest and capacitance < rest
    assert iterations <= 6


@pytest.mark.parametrize("zeta", [2, -10, 20, -40, 40])
def test_multi_ion_grahame(zeta):
    _, charge, _, iterations = _errors(CALCIUM, Wall(potential=zeta * VOLT))
    assert charge < 1e-6 and iterations <= 6


@pytest.mark.parametrize("packing", [1e-3, 0.05, 0.5])
@pytest.mark.parametrize("zeta", [1, -40])
def test_kilic_bazant_ajdari(packing, zeta):
    salt = _salt(diameter=(packing / (20.0 * Avogadro)) ** (1 / 3))
    _, charge, capacitance, iterations = _errors(salt, Wall(potential=zeta * VOLT))
    assert charge < 1e-6 and capacitance < 1e-6 and iterations <= 6


@pytest.mark.parametrize("zeta", [1, -40, 40])
def test_unequal_sizes(zeta):
    phi, charge, capacitance, iterations = _errors(UNEQUAL, Wall(potential=zeta * VOLT))
    assert phi < 1e-8 and charge < 1e-6 and capacitance < 1e-6 and iterations <= 6


@pytest.mark.parametrize("solution", [SALT, CALCIUM, UNEQUAL])
@pytest.mark.parametrize("wall", [
    Wall(potential=-10 * VOLT, stern_capacitance=0.2),
    Wall(potential=40 * VOLT, stern_capacitance=0.1),
    Wall(surface_charge=0.02),
    Wall(surface_charge=-0.3),
])  # fmt: skip
def test_stern_and_charged_walls(solution, wall):
    phi, charge, capacitance, iterations = _errors(solution, wall)
    assert phi < 1e-8 and charge < 1e-7 and capacitance < 1e-7 and iterations <= 6


def test_nanometres_and_metres_are_one_problem():
    """A layer 1e4 thinner, in a solution 1e8 stronger, is the same numbers."""
    thin = _salt(concentration=1e5)
    wide = _salt(concentration=1e-3)
    one = pb.solve(thin, {"left": Wall(potential=0.3)})
    two = pb.solve(wide, {"left": Wall(potential=0.3)})
    np.testing.assert_allclose(one.potential, two.potential, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(one.x * 1e4, two.x, rtol=1e-12)


def test_two_walls_and_a_plane_of_symmetry():
    length = 3 * SALT.debye_length
    wall = Wall(potential=0.2)
    whole = pb.solve(SALT, {"left": wall, "right": wall}, length=length)
    half = pb.solve(SALT, {"left": wall}, length=length / 2)
    np.testing.assert_allclose(
        whole.surface_charge.values, half.surface_charge.values[0], rtol=1e-8
    )
    assert float(whole.potential.min()) == pytest.approx(float(half.potential[-1]), rel=1e-8)
    asymmetric = pb.solve(SALT, {"left": wall, "right": Wall(surface_charge=-0.01)}, length=length)
    c = asymmetric.concentration
    inside = float((c.sel(species="Na") - c.sel(species="Cl")).integrate("x")) * 96485.332
    # trapezoids on the graded nodes: 1e-4; the charge itself is consistent to rounding
    assert float(asymmetric.surface_charge.sum()) == pytest.approx(-inside, rel=1e-3)


def test_capacitance_is_the_derivative_of_the_charge():
    well = {"Na": lambda x: 3e3 * np.exp(-x[0] / 1e-9)}
    kind = {"mean_force": well, "permittivity_profile": lambda x: 10 + 68 * np.tanh(x[0] / 1e-9)}
    step = 1e-4

    def at(volts):
        return pb.solve(SALT, {"left": Wall(potential=volts)}, **kind)

    slope = (at(0.1 + step).surface_charge - at(0.1 - step).surface_charge) / (2 * step)
    assert float(at(0.1).differential_capacitance[0]) == pytest.approx(float(slope[0]), rel=1e-5)


def test_permittivity_profile_is_capacitors_in_series():
    """So few ions that a slab is a plain dielectric: 1/C is the integral of dx over epsilon."""
    length = 5e-9
    thin = _salt(concentration=1e-9)

    def relative(x):
        return 5.0 + 40.0 * (x[0] / length) ** 2

    got = pb.solve(
        thin,
        {"left": Wall(potential=0.1), "right": Wall(potential=0.0)},
        length=length,
        permittivity_profile=relative,
    )
    series = length / np.sqrt(200.0) * np.arctan(np.sqrt(8.0)) / epsilon_0
    assert float(got.surface_charge[0]) == pytest.approx(0.1 / series, rel=1e-6)
    assert float(got.differential_capacitance[0]) == pytest.approx(1 / series, rel=1e-6)


def _manufactured(dim: int, cells: int, degree: int) -> float:
    """L2 error of phi* = product of sines, made exact by a mean force on the cation."""
    length = 3 * SALT.debye_length
    domain = block([np.linspace(0, 1, cells + 1)] * dim, comm=MPI.COMM_SELF)
    ratio = (SALT.debye_length / length) ** 2

    def exact(x):
        return 1.5 * np.prod(np.sin(np.pi * x[:dim]), axis=0)

    def mean_force(x):
        psi = exact(x / length)
        source = dim * np.pi**2 * psi * ratio
        return -gas_constant * SALT.temperature * (np.log(2 * source + np.exp(psi)) + psi)

    grounded = {name: Wall(potential=0.0) for name in domain.boundaries}
    got = pb.solve(
        SALT, grounded, length=length, domain=domain, mean_force={"Na": mean_force}, degree=degree
    )
    assert got.attrs["converged"]
    kinds = tuple(sorted((name, "held") for name in grounded))
    unknown = pb.build(domain, 2, False, kinds, (0,), False, degree).unknown
    fine = ufl.SpatialCoordinate(domain.mesh)
    truth = 1.5
    for axis in range(dim):
        truth = truth * ufl.sin(ufl.pi * fine[axis])
    dx = ufl.dx(metadata={"quadrature_degree": 8})
    return fem.assemble_scalar(fem.form((unknown - truth) ** 2 * dx)) ** 0.5


@pytest.mark.parametrize(
    ("dim", "degree", "cells"),
    [(2, 1, (16, 24, 32)), (2, 2, (8, 16, 32)), (3, 1, (6, 9, 12)), (3, 2, (6, 8, 10))],
)
def test_orders_in_two_and_three_dimensions(dim, degree, cells):
    errors = [_manufactured(dim, n, degree) for n in cells]
    order = -np.polyfit(np.log(cells), np.log(errors), 1)[0]
    assert order == pytest.approx(degree + 1, abs=0.1), errors


def test_a_flat_wall_in_two_dimensions_is_the_line():
    length = 30 * SALT.debye_length
    domain = block([np.linspace(0, 1, 4), graded(120, left=1e-3)], comm=MPI.COMM_SELF)
    wall = Wall(potential=8 * VOLT)
    flat = pb.solve(SALT, {"bottom": wall}, length=length, domain=domain)
    assert float(flat.surface_charge[0]) == pytest.approx(
        float(dl.surface_charge(SALT, 8 * VOLT)), rel=1e-6
    )
    assert float(flat.differential_capacitance[0]) == pytest.approx(
        float(dl.capacitance(SALT, 8 * VOLT)), rel=1e-6
    )
    assert flat.attrs["newton_iterations"] <= 6


@pytest.mark.parametrize(
    ("solution", "zeta", "layer", "cells"),
    [
        (SALT, -40, 1e-10, 40),
        (CALCIUM, -15, 1e-8, 40),
        (_salt(diameter=2e-9), -40, 1e-3, 24),
        (UNEQUAL, -40, 1e-3, 24),
    ],
)
def test_an_inner_corner_converges_from_cold(solution, zeta, layer, cells):
    axis = graded(cells, left=layer)
    domain = block([axis, axis], comm=MPI.COMM_SELF)
    wall = Wall(potential=zeta * VOLT)
    got = pb.solve(
        solution, {"left": wall, "bottom": wall}, length=8 * solution.debye_length, domain=domain
    )
    assert got.attrs["converged"] == 1
    np.testing.assert_allclose(*got.surface_charge.values, rtol=1e-2)
    assert float(got.concentration.min()) > 0
    assert float(got.potential.min()) > (zeta - 0.01) * VOLT
    assert float(got.potential.max()) < 0.05 * VOLT


def test_random_inputs_converge_and_balance():
    """Charge of the walls against the charge of the ions, which nothing in the solver equates."""
    generator = np.random.default_rng(5)
    for _ in range(60):
        z = generator.choice([1, 2, 3], 2)
        c = 10 ** generator.uniform(-1, 3.3)
        size = generator.choice([0.0, 3e-10, 5e-10], 2)
        solution = Solution(
            (
                Species("cation", z[0], c / z[0], diameter=size[0]),
                Species("anion", -z[1], c / z[1], diameter=size[1]),
            ),
            relative_permittivity=generator.uniform(5, 100),
            temperature=generator.uniform(250, 900),
        )
        value = generator.uniform(-1, 1)
        wall = [
            Wall(potential=value),
            Wall(surface_charge=value / 5),
            Wall(potential=2 * value, stern_capacitance=generator.uniform(0.05, 1)),
        ][generator.integers(3)]
        got = pb.solve(solution, {"left": wall})
        zeta = float(got.surface_potential[0])
        assert got.attrs["converged"] == 1
        # a crowd of ions 1 V deep is a Gouy length of 1e-17 m: then fewer digits
        assert float(got.surface_charge[0]) == pytest.approx(
            float(dl.surface_charge(solution, zeta)), rel=1e-3
        )


def test_format_and_inputs_untouched():
    walls = {"left": Wall(potential=0.1)}
    before = repr((SALT, walls))
    got = pb.solve(SALT, walls)
    assert repr((SALT, walls)) == before
    for name, row in FIELD["variables"].items():
        assert got[name].dims == row["dims"]
        assert got[name].attrs["units"] == row["units"]


def test_faults_are_listed_together():
    with pytest.raises(ValueError, match="'top' is not one.*length.*needed.*names \\['K'\\]"):
        pb.solve(SALT, {"top": Wall(), "right": Wall()}, mean_force={"K": lambda x: 0.0 * x[0]})
    domain = block([np.linspace(0, 1, 5)] * 2, comm=MPI.COMM_SELF)
    with pytest.raises(ValueError, match="too coarse for the layer"):
        pb.solve(SALT, {"left": Wall(potential=0.1)}, domain=domain, length=1e-6)
    with pytest.raises(ValueError, match="both given"):
        Wall(potential=0.1, surface_charge=0.1)
    with pytest.raises(ValueError, match="the most that ions can answer"):
        pb.solve(SALT, {"left": Wall(potential=100.0)})
    with pytest.raises(ValueError, match="needs the potential"):
        Wall(stern_capacitance=0.1)


def test_failure_is_one_sentence_or_a_value(monkeypatch):
    wall = {"left": Wall(potential=0.123)}
    pb.solve(SALT, wall, cells=40)
    monkeypatch.setattr("continuum.newton.Newton.solve", lambda self: Outcome(False, "it failed"))
    with pytest.raises(SolverError, match="raised to 0 of their values; then it failed"):
        pb.solve(SALT, wall, cells=40)
    got = pb.solve(SALT, wall, cells=40, throw=False)
    assert got.attrs["converged"] == 0 and "raised to" in got.attrs["outcome"]
