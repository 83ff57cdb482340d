"""Poisson-Nernst-Planck against exact solutions, conservation laws and collocation."""

from __future__ import annotations

from dataclasses import replace

import mpmath
import numpy as np
import pytest
from scipy.constants import Avogadro, gas_constant, physical_constants
from scipy.integrate import solve_bvp

from continuum import double_layer as dl
from continuum import nernst_planck as npl
from continuum.finite_elements import MPI, fem, ufl
from continuum.inputs import ButlerVolmer, Reaction, Solution, Species, Wall
from continuum.laws import Law
from continuum.meshes import block
from continuum.outcome import Outcome, SolverError
from continuum.schema import FIELD

FARADAY = physical_constants["Faraday constant"][0]
D = 1e-9


def _salt(concentration: float = 10.0, diameter: float = 0.0) -> Solution:
    return Solution(
        (
            Species("cation", 1, concentration, diffusivity=D, diameter=diameter),
            Species("anion", -1, concentration, diffusivity=D, diameter=diameter),
        )
    )


SALT = _salt()
VOLT = SALT.thermal_voltage
DEBYE = SALT.debye_length


def _cell(v: float, eps: float, delta: float, solution: Solution = SALT) -> tuple[dict, float]:
    """Blocking walls at -v and +v (RT/F) behind Stern layers, and the half length (m)."""
    stern = solution.permittivity / (delta * solution.debye_length)
    return {
        "left": Wall(potential=-v * VOLT, stern_capacitance=stern),
        "right": Wall(potential=v * VOLT, stern_capacitance=stern),
    }, solution.debye_length / eps


def _exact_charge(t: float, v: float, eps: float, delta: float) -> float:
    """Charge of a blocking cell, linear: Laplace domain, inverted numerically."""

    def transform(s):
        k = mpmath.sqrt(s + 1 / mpmath.mpf(eps) ** 2)
        return eps**2 * k * (v / s) / (mpmath.tanh(k) / (eps * k) ** 2 + s / k + delta * eps * k)

    return float(mpmath.invertlaplace(transform, t, method="talbot", degree=24))


@pytest.mark.parametrize("eps", [0.2, 1e-2, 1e-4])
def test_step_of_a_blocking_cell(eps):
    v, delta = 1e-2, 0.1
    walls, half = _cell(v, eps, delta)
    times = np.array([0.01, 0.1, 0.5, 1.0, 3.0]) * eps
    got = npl.solve(SALT, walls, length=2 * half, times=times * half**2 / D, tolerance=1e-9)
    charge = got.surface_charge.sel(wall="right") / (SALT.permittivity * VOLT / half) * eps**2
    exact = np.array([_exact_charge(t, v, eps, delta) for t in times])
    assert np.abs(charge - exact).max() < 1e-5 * exact[-1]


@pytest.mark.parametrize("packing", [0.0, 0.05])
@pytest.mark.parametrize("order", [1, 2])
def test_a_step_of_forty_is_taken_keeping_mass_sign_and_energy(packing, order):
    solution = _salt(diameter=(packing / (20.0 * Avogadro)) ** (1 / 3))
    walls, half = _cell(40.0, 0.02, 0.01, solution)
    times = np.logspace(-6, 1.3, 12) * half**2 / D
    got = npl.solve(solution, walls, length=2 * half, times=times, order=order, tolerance=1e-3)
    assert got.attrs["converged"] == 1
    assert float(got.concentration.min()) > 0
    assert np.abs(got.inventory / got.inventory[0] - 1).max() < 1e-13
    initial = 2 * half * 10.0
    assert np.abs(got.inventory / initial - 1).max() < 1e-13
    if order == 1:
        energy = got.free_energy.values
        fall = np.diff(energy)
        assert fall.max() <= 1e-13 * np.ptp(energy) and fall.min() < 0
    filled = Avogadro * solution.species[0].diameter ** 3 * got.concentration.sum("species")
    assert float(filled.max()) < 1
    np.testing.assert_allclose(
        got.surface_charge.isel(wall=0), -got.surface_charge.isel(wall=1), rtol=1e-8
    )


def test_energy_falls_between_held_walls_of_unlike_solutions():
    walls = {"left": Wall(potential=-0.2), "right": Wall(surface_charge=0.01)}
    length = 30 * DEBYE
    times = np.logspace(-3, 1, 20) * length * DEBYE / D
    got = npl.solve(SALT, walls, length=length, times=times, order=1, tolerance=1e-2)
    energy = got.free_energy.values
    assert np.diff(energy).max() <= 1e-12 * np.ptp(energy)
    # at rest a small change of the potential does the work -sigma dV
    step = 1e-4

    def rest(volts):
        return npl.solve(
            SALT, {"left": Wall(potential=volts), "right": Wall(potential=0.0)}, length=length
        )

    slope = float(rest(0.1 + step).free_energy - rest(0.1 - step).free_energy) / (2 * step)
    assert slope == pytest.approx(-float(rest(0.1).surface_charge[0]), rel=1e-5)


@pytest.mark.parametrize("packing", [0.0, 0.05, 0.5])
@pytest.mark.parametrize("volts", [2.0, 20.0])
def test_charge_at_the_end_is_the_closed_form(packing, volts):
    """In the middle of a thick cell stands a bulk; towards it, the closed form must hold."""
    diameter = (packing / (20.0 * Avogadro)) ** (1 / 3)
    solution = _salt(diameter=diameter)
    # so thick that the layers do not drain it
    walls, half = _cell(volts, 1e-3, 0.1, solution)
    got = npl.solve(solution, walls, length=2 * half, cells=256)
    middle = int(np.argmin(np.abs(got.x.values - half)))
    left = got.concentration.values[:, middle]
    np.testing.assert_allclose(*left, rtol=1e-9)
    bulk = _salt(float(left[0]), diameter)
    electrode = volts * VOLT - float(got.potential[middle])
    zeta = dl.diffuse_potential(bulk, electrode, stern_capacitance=walls["right"].stern_capacitance)
    assert float(got.surface_charge.sel(wall="right")) == pytest.approx(
        float(dl.surface_charge(bulk, zeta)), rel=1e-7
    )


def test_unequal_sizes_move_and_settle():
    solution = Solution(
        (Species("Li", 1, 800.0, D, 4e-10), Species("PF6", -1, 800.0, D / 2, 7e-10)),
        solvent_diameter=3.1e-10,
    )
    length = 60 * solution.debye_length
    walls = {"left": Wall(potential=-0.6), "right": Wall(potential=0.6)}
    moved = npl.solve(
        solution, walls, length=length, times=[1e3 * solution.debye_length * length / D]
    ).isel(time=-1)
    settled = npl.solve(solution, walls, length=length, cells=256)
    np.testing.assert_allclose(moved.surface_charge, settled.surface_charge, rtol=1e-4)
    np.testing.assert_allclose(settled.inventory, 800.0 * length, rtol=1e-12)
    middle = int(np.argmin(np.abs(settled.x.values - length / 2)))
    c = settled.concentration.values[:, middle]
    bulk = replace(
        solution,
        species=tuple(replace(ion, concentration=float(c.mean())) for ion in solution.species),
    )
    for wall, sign in (("left", -1), ("right", 1)):
        zeta = sign * 0.6 - float(settled.potential[middle])
        assert float(settled.surface_charge.sel(wall=wall)) == pytest.approx(
            float(dl.surface_charge(bulk, zeta)), rel=1e-6
        )


@pytest.mark.parametrize("volts", [3.0, -0.5])
def test_goldman_hodgkin_katz(volts):
    """Membrane much thinner than its Debye length: constant field, three ions."""
    inside, outside = (1.0, 0.2, 1.2), (0.3, 0.9, 1.2)
    ions = (("K", 1, D), ("Na", 1, D / 2), ("Cl", -1, 2 * D))
    solution = Solution(
        tuple(Species(n, z, c, d) for (n, z, d), c in zip(ions, inside, strict=True))
    )
    length = solution.debye_length / 1e4
    names = [n for n, _, _ in ions]
    got = npl.solve(
        solution,
        {
            "left": Wall(
                potential=volts * VOLT, concentration=dict(zip(names, inside, strict=True))
            ),
            "right": Wall(potential=0.0, concentration=dict(zip(names, outside, strict=True))),
        },
        length=length,
    )
    for (name, z, d), a, b in zip(ions, inside, outside, strict=True):
        u = z * volts
        exact = d / length * u * (a - b * np.exp(-u)) / -np.expm1(-u)
        assert float(got.flux.sel(species=name)) == pytest.approx(exact, rel=1e-7)
        assert float(got.wall_flux.sel(species=name, wall="right")) == pytest.approx(
            -exact, rel=1e-7
        )


def _collocation(eps, delta, kc, ka, volts, guess):
    """Flux of cations (units D c0 / L) by solve_bvp, for the same Frumkin-Butler-Volmer cell.

    Anions are at rest, c = exp(psi + constant), which leaves ln c of the cations, psi, its slope
    and the anions counted from the left, with the flux and that constant as parameters.
    """

    def slope(x, y, p):
        plus, minus = np.exp(y[0]), np.exp(y[1] + p[1])
        return np.vstack([-p[0] / plus - y[2], y[2], -(plus - minus) / (2 * eps**2), minus])

    def ends(a, b, p):
        left, right = -a[1], volts - b[1]
        return np.array([
            a[1] - delta * eps * a[2],
            b[1] + delta * eps * b[2] - volts,
            p[0] - (ka * np.exp(left / 2) - kc * np.exp(a[0] - left / 2)),
            -p[0] - (ka * np.exp(right / 2) - kc * np.exp(b[0] - right / 2)),
            a[3],
            b[3] - 1,
        ])  # fmt: skip

    x, y, p = guess
    # the first may run out of nodes; what it reached is then a better start for the second
    for tolerance in (1e-6, 1e-9):
        sol = solve_bvp(slope, ends, x, y, p=p, tol=tolerance, max_nodes=100000)
        x, p = sol.x, sol.p
        minus = np.exp(sol.y[1] + p[1])
        total = np.concatenate([[0], np.cumsum(0.5 * np.diff(x) * (minus[1:] + minus[:-1]))])
        y = np.vstack([sol.y[0], sol.y[1], np.gradient(sol.y[1], x), total])
    assert sol.status == 0
    return p[0]


@pytest.mark.parametrize(
    ("eps", "volts"),
    [(0.1, -2.0), (0.1, -40.0), (0.01, -2.0), (0.01, -15.0), (1e-3, -2.0), (1e-3, -40.0)],
)
def test_frumkin_butler_volmer_current(eps, volts):
    """Below and above the limiting current 4 D c0 / L of cations between two electrodes."""
    delta, kc, ka = 0.1, 10.0, 10.0
    length = DEBYE / eps
    stern = SALT.permittivity / (delta * DEBYE)
    unit = D / length
    transfer = ButlerVolmer("cation", ka * unit * 10.0, kc * unit)
    walls = {
        "left": Wall(potential=0.0, stern_capacitance=stern, reaction=transfer),
        "right": Wall(potential=volts * VOLT, stern_capacitance=stern, reaction=transfer),
    }
    got = npl.solve(SALT, walls, length=length, cells=400)
    flux = float(got.flux.sel(species="cation")) / (unit * 10.0)
    left, right = got.wall_flux.sel(species="cation").values
    # far above the limit the space charge is thin in ions: fewer digits
    digits = 1e-9 if volts > -40.0 else 1e-8
    assert left == pytest.approx(-right, rel=10 * digits)
    assert abs(float(got.flux.sel(species="anion"))) < digits * max(left, unit * 10)
    # the reference starts from a coarser mesh, or it runs out of nodes
    coarse = npl.solve(SALT, walls, length=length, cells=256)
    x = coarse.x.values / length
    c = coarse.concentration.values / 10.0
    psi = coarse.potential.values / VOLT
    total = np.concatenate([[0], np.cumsum(0.5 * (c[1, 1:] + c[1, :-1]) * np.diff(x))])
    mu = coarse.electrochemical_potential.values / (gas_constant * SALT.temperature)
    start = np.vstack([mu[0] - psi, psi, np.gradient(psi, x), total])
    guess = (x, start, [flux, float(mu[1].mean())])
    assert flux == pytest.approx(_collocation(eps, delta, kc, ka, volts, guess), rel=1e-7)
    assert (flux > 4.0) == (volts <= -15.0)


def test_neutral_limit_is_reached_by_thin_layers():
    """Ambipolar relaxation with unequal ions: the neutral model, and Poisson's with thin layers."""
    ions = (Species("H", 1, 10.0, 9e-9), Species("Cl", -1, 10.0, 2e-9))
    solution = Solution(ions)
    length = 3e3 * solution.debye_length
    ambipolar = 2 * 9e-9 * 2e-9 / 11e-9
    time = 0.1 * length**2 / ambipolar
    wave = {ion.name: lambda x: 10.0 * (1 + 0.3 * np.cos(np.pi * x[0] / length)) for ion in ions}
    arguments = {"length": length, "times": [time], "initial": wave, "tolerance": 1e-7}
    neutral = npl.solve(solution, {}, electroneutral=True, **arguments).isel(time=-1)
    exact = 10.0 * (1 + 0.3 * np.cos(np.pi * neutral.x / length) * np.exp(-0.1 * np.pi**2))
    np.testing.assert_allclose(neutral.concentration.sel(species="H"), exact, rtol=1e-5)
    beta = (9 - 2) / (9 + 2)
    drop = float(neutral.potential[-1] - neutral.potential[0])
    assert drop == pytest.approx(-beta * VOLT * float(np.log(exact[-1] / exact[0])), rel=1e-4)
    full = npl.solve(solution, {}, **arguments).isel(time=-1)
    assert float(full.potential[-1] - full.potential[0]) == pytest.approx(drop, rel=1e-4)
    np.testing.assert_allclose(
        full.concentration, neutral.concentration.interp(x=full.x), rtol=1e-4
    )


def test_neutral_cell_under_current_is_the_textbook_one():
    """Cation transfer without layers: c linear, current 4 D c0 F / L times tanh(V / 4)."""
    length, fast = 1e-4, 1e3
    transfer = ButlerVolmer("cation", fast * D / length * 10.0, fast * D / length)
    volts = 2.0
    got = npl.solve(
        SALT,
        {
            "left": Wall(potential=volts * VOLT, reaction=transfer),
            "right": Wall(potential=0.0, reaction=transfer),
        },
        length=length,
        electroneutral=True,
    )
    flux = float(got.flux.sel(species="cation")) * length / (D * 10.0)
    slope = flux / 2
    c = got.concentration.sel(species="cation").values / 10.0
    np.testing.assert_allclose(c, 1 + slope * (0.5 - got.x / length), rtol=1e-8)
    # drop across the neutral salt 2 ln(c_a / c_b) plus that of two symmetric reactions
    a, b = 1 + slope / 2, 1 - slope / 2
    over = [2 * np.arcsinh(flux / (2 * fast * np.sqrt(c0))) for c0 in (a, b)]
    assert 2 * np.log(a / b) + sum(over) == pytest.approx(volts, rel=1e-8)
    assert "surface_charge" not in got


def test_reaction_reaches_its_equilibrium_and_keeps_atoms():
    solution = Solution(
        (
            Species("H", 1, 5.0, 9e-9),
            Species("A", -1, 5.0, D),
            Species("HA", 0, 20.0, D / 2),
        )
    )
    reaction = Reaction({"HA": 1}, {"H": 1, "A": 1}, forward=2.0, backward=0.1)
    length = 1e-6
    got = npl.solve(solution, {}, length=length, times=[50.0], reactions=[reaction]).isel(time=-1)
    c = got.concentration
    np.testing.assert_allclose(
        2.0 * c.sel(species="HA"), 0.1 * c.sel(species="H") * c.sel(species="A"), rtol=1e-8
    )
    kept = got.inventory.sel(species="HA") + got.inventory.sel(species="A")
    assert float(kept) == pytest.approx(25.0 * length, rel=1e-12)


def test_law_of_concentration_enters_through_its_symbols():
    """Arrhenius diffusivity: same as its number; and another number without compiling."""
    law = Law("arrhenius", (D, 2e4, 298.15), "m2 s-1")
    warm = tuple(replace(ion, diffusivity=law) for ion in SALT.species)
    walls, half = _cell(1.0, 0.05, 0.1)
    times = [0.02 * half**2 / D]
    for temperature in (298.15, 320.0):
        number = float(law(10.0, temperature))
        plain = tuple(replace(ion, diffusivity=number) for ion in SALT.species)
        one, two = (
            npl.solve(Solution(s, temperature=temperature), walls, length=2 * half, times=times)
            for s in (warm, plain)
        )
        np.testing.assert_allclose(one.surface_charge, two.surface_charge, rtol=1e-10)


def test_surface_charges_alone_settle_as_poisson_boltzmann():
    got = npl.solve(
        SALT,
        {"left": Wall(surface_charge=0.01), "right": Wall(surface_charge=-0.01)},
        length=60 * DEBYE,
    )
    middle = int(np.argmin(np.abs(got.x.values - 30 * DEBYE)))
    bulk = _salt(float(got.concentration[0, middle]))
    expected = float(dl.surface_potential(bulk, 0.01))
    assert float(got.potential[0] - got.potential[middle]) == pytest.approx(expected, rel=1e-6)
    np.testing.assert_allclose(got.surface_charge, [0.01, -0.01], rtol=1e-9)


@pytest.mark.parametrize("scale", [1e-4, 1e4])
def test_metres_do_not_matter(scale):
    """All lengths times s, concentrations over s^2: the same numbers, nanometres or millimetres."""
    walls, half = _cell(5.0, 0.05, 0.1)
    one = npl.solve(SALT, walls, length=2 * half, times=[0.05 * half**2 / D])
    other = _salt(10.0 / scale**2)
    moved, half = _cell(5.0, 0.05, 0.1, other)
    two = npl.solve(other, moved, length=2 * half, times=[0.05 * half**2 / D])
    np.testing.assert_allclose(one.potential, two.potential, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(one.x * scale, two.x, rtol=1e-12)


def _wave(dim: int, cells: int, degree: int) -> float:
    """L2 error of c against a decaying cosine, an exact solution for ions that move alike."""
    length = DEBYE
    domain = block([np.linspace(0, 1, cells + 1)] * dim, comm=MPI.COMM_SELF)
    walls = {name: Wall() for name in domain.boundaries}
    time = 0.005

    def shape(x):
        return 1 + 0.5 * np.prod(np.cos(np.pi * x[:dim] / length), axis=0)

    wave = {ion.name: lambda x: 10.0 * shape(x) for ion in SALT.species}
    arguments = {"length": length, "times": [time * length**2 / D], "initial": wave}
    tolerance = 1e-3 if degree == 1 else 1e-6
    npl.solve(SALT, walls, domain=domain, degree=degree, tolerance=tolerance, **arguments)
    problem = npl.build(npl.structure(SALT, walls, domain, (), False, degree))
    x = ufl.SpatialCoordinate(domain.mesh)
    exact = 0.5 * np.exp(-dim * np.pi**2 * time)
    for axis in range(dim):
        exact = exact * ufl.cos(ufl.pi * x[axis])
    error = (2 * problem.concentration[0] - 1 - exact) ** 2
    return fem.assemble_scalar(fem.form(error * problem.dx)) ** 0.5


@pytest.mark.parametrize(
    ("dim", "degree", "cells"),
    [(2, 1, (12, 18, 24)), (2, 2, (6, 10, 16)), (3, 1, (7, 9, 12)), (3, 2, (3, 4, 5))],
)
def test_orders_in_two_and_three_dimensions(dim, degree, cells):
    errors = [_wave(dim, n, degree) for n in cells]
    order = -np.polyfit(np.log(cells), np.log(errors), 1)[0]
    assert order == pytest.approx(degree + 1, abs=0.1), errors


def test_second_order_in_time():
    walls, half = _cell(3.0, 0.05, 0.1)
    end = [0.1 * half**2 / D]
    solved = [
        npl.solve(SALT, walls, length=2 * half, times=end, tolerance=tolerance)
        for tolerance in (1e-3, 1e-4, 1e-5, 1e-7)
    ]
    charge = [float(s.surface_charge[0, 0]) for s in solved]
    steps = [int(s.attrs["outcome"].split("in ")[1].split()[0]) for s in solved]
    errors = np.abs(np.array(charge[:3]) / charge[3] - 1)
    order = -np.polyfit(np.log(steps[:3]), np.log(errors), 1)[0]
    assert 1.7 < order < 3.0, (steps, errors)


def test_format_and_inputs_untouched():
    walls, half = _cell(1.0, 0.05, 0.1)
    before = repr((SALT, walls))
    steady = npl.solve(SALT, walls, length=2 * half)
    moving = npl.solve(SALT, walls, length=2 * half, times=[1e-7, 2e-7])
    assert repr((SALT, walls)) == before
    for name, row in FIELD["variables"].items():
        assert steady[name].dims == row["dims"]
        assert moving[name].attrs["units"] == row["units"]
        if name != "x":
            assert moving[name].dims == ("time", *row["dims"])


def test_faults_are_listed_together():
    with pytest.raises(ValueError) as error:
        npl.solve(
            SALT,
            {"top": Wall(), "left": Wall(surface_charge=1.0, concentration={"K": 1.0})},
            length=-1.0,
            times=[1.0, 0.5],
        )
    for word in ("length", "times", "['K']", "'top'", "hold the potential", "charges add up"):
        assert word in str(error.value)
    with pytest.raises(ValueError, match="initial concentrations"):
        npl.solve(SALT, {}, length=1e-6, initial={"cation": lambda x: -1.0 + 0 * x[0]})
    domain = block([np.linspace(0, 1, 5)] * 2, comm=MPI.COMM_SELF)
    with pytest.raises(ValueError, match="too coarse for the layer"):
        npl.solve(SALT, {"left": Wall(potential=0.1)}, domain=domain, length=1e-6)


def test_a_law_that_left_its_window_is_named():
    """At the start or in a layer: recorded, as by the other solvers that take Laws."""
    cold = Law("constant", (D,), "m2 s-1", temperature_window=(300.0, 400.0))
    thin = Law("constant", (D,), "m2 s-1", concentration_window=(1.0, 15.0))
    cation, anion = SALT.species
    mixed = Solution((replace(cation, diffusivity=thin), replace(anion, diffusivity=cold)))
    walls = {"left": Wall(potential=-0.05), "right": Wall(potential=0.0)}
    said = npl.solve(mixed, walls, length=20 * DEBYE).attrs["outcome"]
    assert "diffusivity of anion: temperature 298.15 K lies outside" in said
    assert "diffusivity of cation: concentration" in said
    plain = Solution((replace(cation, diffusivity=thin), anion))
    assert "outside" not in npl.solve(plain, {}, length=1e-6).attrs["outcome"]


@pytest.mark.parametrize("times", [None, [1e-6]])
def test_failure_is_one_sentence_or_a_value(monkeypatch, times):
    monkeypatch.setattr("continuum.newton.Newton.solve", lambda self: Outcome(False, "it failed"))
    walls = {"left": Wall(potential=0.1), "right": Wall(potential=0.0)}
    with pytest.raises(SolverError, match="it failed"):
        npl.solve(SALT, walls, length=1e-7, times=times)
    got = npl.solve(SALT, walls, length=1e-7, times=times, throw=False)
    assert got.attrs["converged"] == 0 and "it failed" in got.attrs["outcome"]


def test_random_cells_end_balanced():
    """Fluxes cancel over closed walls, charge of ions and walls cancel, whatever the input."""
    generator = np.random.default_rng(11)
    for _ in range(10):
        z = generator.choice([1, 2], 2)
        c = 10 ** generator.uniform(0, 3)
        size = generator.choice([0.0, 4e-10])
        solution = Solution(
            (
                Species("cation", z[0], c / z[0], 10 ** generator.uniform(-11, -8), size),
                Species("anion", -z[1], c / z[1], 10 ** generator.uniform(-11, -8), size),
            ),
            relative_permittivity=generator.uniform(5, 100),
            temperature=generator.uniform(260, 600),
        )
        length = solution.debye_length * 10 ** generator.uniform(0, 3)
        stern = generator.uniform(0.05, 0.5)
        walls = {
            "left": Wall(potential=generator.uniform(-0.5, 0.5), stern_capacitance=stern),
            "right": Wall(potential=generator.uniform(-0.5, 0.5)),
        }
        slow = min(ion.diffusivity for ion in solution.species)
        times = None if generator.uniform() < 0.5 else [length * solution.debye_length / slow]
        got = npl.solve(solution, walls, length=length, times=times, tolerance=1e-3)
        end = got if times is None else got.isel(time=-1)
        assert got.attrs["converged"] == 1 and float(end.concentration.min()) > 0
        charge = FARADAY * float(
            sum(i.charge_number * n for i, n in zip(solution.species, end.inventory, strict=True))
        )
        largest = float(np.abs(end.surface_charge).max())
        assert abs(float(end.surface_charge.sum()) + charge) <= 1e-8 * largest + 1e-12
        np.testing.assert_allclose(
            end.inventory, [i.concentration * length for i in solution.species], rtol=1e-11
        )
        if times is None:
            mu = end.electrochemical_potential.values / (gas_constant * solution.temperature)
            assert np.ptp(mu, axis=1).max() < 1e-6
