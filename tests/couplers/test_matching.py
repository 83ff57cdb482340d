from __future__ import annotations

import numpy as np
import pytest

from continuum import double_layer as closed
from continuum.inputs import Interface, Solution, Species, Wall
from couplers.matching import dipole_potential, finite_element_layer, match


def salt(concentration: float, diameter: float = 0.0) -> Solution:
    return Solution(
        (
            Species("Na", 1, concentration, diameter=diameter),
            Species("Cl", -1, concentration, diameter=diameter),
        )
    )


def inner(charge: float) -> float:
    """Potential of zero charge 0.1 V; the capacitance falls from 0.25 F m-2 to 1/7 of it."""
    return 0.1 + charge / 0.25 * (1 + 3 * charge + 40 * charge**2)


@pytest.mark.parametrize("concentration", [1.0, 100.0, 1000.0])
@pytest.mark.parametrize("charge", [-0.2, -0.05, -1e-3, 1e-3, 0.05, 0.2])
def test_loop_finds_the_exact_joint_solution_from_both_signs(
    concentration: float, charge: float
) -> None:
    solution = salt(concentration)
    between = float(closed.surface_potential(solution, charge))
    potential = inner(charge) + between
    for start in (0.05, -0.05, None):
        found = match(solution, inner, potentials=[potential], start=start).isel(potential=0)
        assert int(found["converged"]) == 1, str(found["outcome"].values)
        assert int(found["iterations"]) <= 12
        assert float(found["surface_charge"]) == pytest.approx(charge, rel=1e-8)
        assert float(found["matching_potential"]) == pytest.approx(between, rel=1e-7)
        assert float(found["inner_potential"]) == pytest.approx(inner(charge), abs=1e-8)


def test_ions_of_finite_size_outside_an_interface() -> None:
    """A callable and an Interface of the same numbers agree; both agree with the exact charge."""
    solution, charge = salt(100.0, 6e-10), np.linspace(-0.3, 0.3, 31)
    layer = Interface(0.1, tuple(charge), tuple(np.full(31, 0.2)))
    truth = np.array([-0.25, 0.02, 0.25])
    potentials = 0.1 + truth / 0.2 + closed.surface_potential(solution, truth)
    for one in (layer, lambda sigma: 0.1 + sigma / 0.2):
        found = match(solution, one, potentials=potentials)
        np.testing.assert_allclose(found["surface_charge"], truth, rtol=1e-8)
    assert found.attrs["outcome"] == "3 of 3 converged"


def test_constant_inner_layer_is_sterns() -> None:
    solution = salt(10.0)
    layer = Interface(0.0, (-1.0, 1.0), (0.3, 0.3))
    potentials = np.array([-0.8, 0.0, 0.3])
    zeta = closed.diffuse_potential(solution, potentials, stern_capacitance=0.3)
    found = match(solution, layer, potentials=potentials)
    np.testing.assert_allclose(found["matching_potential"], zeta, atol=1e-9)


def test_finite_elements_as_the_outer_layer() -> None:
    solution, layer = salt(100.0), Interface(0.1, (-0.3, 0.3), (0.2, 0.2))
    for charge in (-0.1, 0.1):
        potential = 0.1 + charge / 0.2 + float(closed.surface_potential(solution, charge))
        outer = finite_element_layer(solution, layer)
        found = match(solution, layer, potentials=[potential], outer=outer).isel(potential=0)
        assert int(found["converged"]) == 1
        assert int(found["iterations"]) <= 12
        assert float(found["surface_charge"]) == pytest.approx(charge, rel=1e-6)


def test_mean_forces_leave_the_potential_of_zero_charge() -> None:
    distance = tuple(np.linspace(0, 3e-9, 61))
    force = tuple(4e3 * np.exp(-np.linspace(0, 3, 61) / 0.3))
    layer = Interface(0.1, (-0.3, 0.3), (0.2, 0.2), distance=distance, mean_force={"Na": force})
    outer = finite_element_layer(salt(100.0), layer)
    found = match(salt(100.0), layer, potentials=[0.1, 0.3], outer=outer)
    assert abs(float(found["surface_charge"][0])) < 1e-9
    plain = match(salt(100.0), layer, potentials=[0.3])
    assert float(found["surface_charge"][1]) != pytest.approx(
        float(plain["surface_charge"][0]), rel=1e-3
    )


def test_matched_charge_is_that_of_the_solver_behind_the_same_layer() -> None:
    """The wall that a continuum solver is given, with the integral capacitance at the charge."""
    from continuum.poisson_boltzmann import solve

    solution = salt(100.0)
    layer = Interface(0.1, (-0.2, -0.05, 0.05, 0.2), (0.1, 0.3, 0.25, 0.12))
    found = match(solution, layer, potentials=[0.6]).isel(potential=0)
    charge = float(found["surface_charge"])
    whole = charge / float(layer.inner_potential(charge))
    wall = Wall(potential=0.6 - 0.1, stern_capacitance=whole)
    solved = solve(solution, {"left": wall})
    assert float(solved["surface_charge"].sel(wall="left")) == pytest.approx(charge, rel=1e-6)


@pytest.mark.parametrize("moment", [2e-30, -2e-30])
def test_adsorbed_dipoles_feed_the_same_loop(moment: float) -> None:
    """Frumkin isotherm that depends on the charge: charge and coverage are solved jointly."""
    solution = salt(100.0)

    def isotherm(potential: float, charge: float, taken: float) -> float:
        return 1 / (1 + np.exp(-(1.0 + 20 * charge - 3.0 * taken)))

    def dipole(taken: float) -> float:
        return dipole_potential(
            taken, dipole_moment=moment, site_density=4e18, polarisability=5e-40
        )

    from scipy.optimize import brentq

    charge = 0.06
    taken = brentq(lambda t: isotherm(0, charge, t) - t, 0, 1, xtol=1e-15)
    potential = inner(charge) + dipole(taken) + float(closed.surface_potential(solution, charge))
    for start in (0.05, -0.05):
        found = match(
            solution, inner, potentials=[potential], coverage=isotherm, dipole=dipole, start=start
        ).isel(potential=0)
        assert int(found["converged"]) == 1
        assert float(found["surface_charge"]) == pytest.approx(charge, rel=1e-7)
        assert float(found["coverage"]) == pytest.approx(taken, rel=1e-7)
        assert float(found["dipole_potential"]) == pytest.approx(dipole(taken), rel=1e-7)
        total = found["inner_potential"] + found["dipole_potential"] + found["matching_potential"]
        assert float(total) == pytest.approx(potential, abs=1e-12)
        assert np.sign(float(found["dipole_potential"])) == -np.sign(moment)


def test_dipole_layer_is_two_sheets_of_charge() -> None:
    """Poisson's equation across sheets -q and +q, d apart, the positive one to the liquid."""
    from scipy.constants import elementary_charge, epsilon_0

    sheet, apart, sites = 0.1 * elementary_charge, 1.5e-10, 5e18
    field = -sheet * sites / epsilon_0  # between the sheets, from the negative to the positive
    step = field * apart  # potential of the electrode minus that of the liquid
    ours = dipole_potential(1.0, dipole_moment=sheet * apart, site_density=sites)
    assert ours == pytest.approx(step, rel=1e-12)
    weaker = dipole_potential(
        1.0, dipole_moment=sheet * apart, site_density=sites, polarisability=1e-40
    )
    assert step < weaker < 0


def test_noisy_inner_layer_stops_at_its_noise_with_a_true_error() -> None:
    """An inner layer from molecular dynamics: 2 mV of noise an evaluation."""
    rng = np.random.default_rng(3)
    solution, charge = salt(100.0), 0.08
    potential = inner(charge) + float(closed.surface_potential(solution, charge))
    pulls = []
    for _ in range(60):
        found = match(
            solution,
            lambda sigma: inner(sigma) + 2e-3 * rng.standard_normal(),
            potentials=[potential],
            start=-0.03,
            noise=2e-3,
        ).isel(potential=0)
        assert int(found["converged"]) == 1, str(found["outcome"].values)
        assert "to the noise" in str(found["outcome"].values)
        pulls.append(float((found["surface_charge"] - charge) / found["surface_charge_std"]))
    assert 0.5 < np.std(pulls) < 2.0


def test_charge_beyond_the_data_is_said() -> None:
    layer = Interface(0.1, (-0.02, 0.02), (0.2, 0.2))
    found = match(salt(100.0), layer, potentials=[0.1, 0.6])
    first, second = (str(text) for text in found["outcome"].values)
    assert "lies outside" not in first
    assert "lies outside the inner layer's data, -0.02 to 0.02 C m-2" in second


def test_no_agreement_is_an_outcome() -> None:
    found = match(salt(100.0), inner, potentials=[0.6], max_iterations=2)
    assert found["converged"].values.tolist() == [0]
    assert "not converged after 2" in str(found["outcome"].values[0])


def test_bad_input_is_refused_together() -> None:
    with pytest.raises(ValueError) as error:
        match(
            salt(1.0),
            inner,
            potentials=[np.nan],
            coverage=lambda V, s, t: 0.5,
            inner_capacitance=0,
            noise=0,
        )
    for word in ("coverage and dipole", "inner_capacitance is 0", "noise is 0", "potentials"):
        assert word in str(error.value)
