"""Closed forms against textbook special cases, quadrature and each other."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.constants import Avogadro, e, epsilon_0, k
from scipy.integrate import quad, solve_ivp

from continuum import double_layer as dl
from continuum.inputs import Solution, Species

VOLT = k * 298.15 / e


def _salt(concentration: float = 10.0, z: float = 1.0, diameter: float = 0.0) -> Solution:
    return Solution(
        (
            Species("cation", z, concentration, diameter=diameter),
            Species("anion", -z, concentration, diameter=diameter),
        )
    )


CALCIUM = Solution((Species("Ca", 2, 5.0), Species("Na", 1, 7.0), Species("Cl", -1, 17.0)))
UNEQUAL = Solution(
    (Species("Li", 1, 1000.0, diameter=4e-10), Species("PF6", -1, 1000.0, diameter=7e-10)),
    solvent_diameter=3.1e-10,
)


def test_published_values():
    salt = _salt()
    assert salt.debye_length == pytest.approx(3.04186e-9, rel=2e-6, abs=0)
    assert dl.capacitance(salt, 0.0) == pytest.approx(22.84669e-2, rel=2e-6)
    assert dl.surface_charge(salt, 0.1) == pytest.approx(4.02582e-2, rel=2e-6)


@pytest.mark.parametrize("z", [1, 2])
@pytest.mark.parametrize("zeta", [-20.0, -1.0, 1e-7, 3.0, 40.0])
def test_gouy_chapman(z, zeta):
    salt = _salt(z=z)
    scale = 2 * epsilon_0 * 78.49 * VOLT / salt.debye_length / z
    assert dl.surface_charge(salt, zeta * VOLT) == pytest.approx(
        scale * np.sinh(z * zeta / 2), rel=1e-8, abs=0
    )
    assert dl.capacitance(salt, zeta * VOLT) == pytest.approx(
        epsilon_0 * 78.49 / salt.debye_length * np.cosh(z * zeta / 2), rel=1e-8
    )
    x = np.array([0.0, 1e-4, 0.03, 1.0, 5.0, 35.0, 60.0])
    # 4/z artanh(g exp(-x)) with 1 - g exp(-x) kept free of cancellation
    decay = np.exp(-x)
    wall = np.tanh(z * abs(zeta) / 4)
    gap = -np.expm1(-x) + decay * 2 / (np.exp(z * abs(zeta) / 2) + 1)
    exact = np.sign(zeta) * 2 / z * (np.log1p(wall * decay) - np.log(gap)) * VOLT
    small = wall * decay < 1e-3
    exact[small] = np.sign(zeta) * 4 / z * np.arctanh((wall * decay)[small]) * VOLT
    got = dl.profile(salt, x * salt.debye_length, potential=zeta * VOLT)
    np.testing.assert_allclose(got, exact, rtol=1e-8)


@pytest.mark.parametrize("packing", [1e-3, 0.1, 0.5])
@pytest.mark.parametrize("zeta", [0.01, -5.0, 40.0])
def test_kilic_bazant_ajdari(packing, zeta):
    diameter = (packing / (2 * 10.0 * Avogadro)) ** (1 / 3)
    salt = _salt(diameter=diameter)
    crowd = np.log1p(2 * packing * np.sinh(zeta / 2) ** 2)
    charge = 2 * Avogadro * e * 10.0 * salt.debye_length * np.sqrt(2 / packing * crowd)
    assert dl.surface_charge(salt, zeta * VOLT) == pytest.approx(
        np.sign(zeta) * charge, rel=1e-8, abs=0
    )
    exact = np.sinh(abs(zeta)) / (
        (1 + 2 * packing * np.sinh(zeta / 2) ** 2) * np.sqrt(2 / packing * crowd)
    )
    assert dl.capacitance(salt, zeta * VOLT) == pytest.approx(
        epsilon_0 * 78.49 / salt.debye_length * exact, rel=1e-8
    )


@pytest.mark.parametrize("solution", [CALCIUM, UNEQUAL, _salt(diameter=3e-9)])
@pytest.mark.parametrize("potential", [-0.6, -0.05, 0.01, 0.9])
def test_charge_is_the_work_of_the_charge_density(solution, potential):
    """sigma^2 / 2 eps = - int rho dphi, by quadrature that knows nothing of the first integral."""

    def density(phi):
        c = dl.concentrations(solution, phi)
        return (
            Avogadro
            * e
            * sum(i.charge_number * n for i, n in zip(solution.species, c, strict=True))
        )

    work, _ = quad(density, 0.0, potential, epsrel=1e-11, limit=400)
    charge = np.sign(potential) * np.sqrt(-2 * solution.permittivity * work)
    assert dl.surface_charge(solution, potential) == pytest.approx(charge, rel=1e-9, abs=0)


@pytest.mark.parametrize("solution", [CALCIUM, UNEQUAL])
def test_space_is_never_overfilled_and_free_volume_closes(solution):
    phi = np.linspace(-1.0, 1.0, 41)
    c = dl.concentrations(solution, phi)
    volumes, _ = dl.sizes(solution)
    filled = volumes @ c
    assert np.all(c > 0) and np.all(filled < 1)
    free = 1 - volumes @ np.array([ion.concentration for ion in solution.species])
    np.testing.assert_allclose(
        1 - filled, free * np.exp(dl.crowding(solution, phi / VOLT)), atol=1e-14
    )


@pytest.mark.parametrize("solution", [CALCIUM, UNEQUAL])
@pytest.mark.parametrize("potential", [-0.3, 0.2])
def test_capacitance_and_profile_are_derivatives(solution, potential):
    step = 1e-5
    slope = (
        dl.surface_charge(solution, potential + step)
        - dl.surface_charge(solution, potential - step)
    ) / (2 * step)
    assert dl.capacitance(solution, potential) == pytest.approx(slope, rel=1e-6)

    def march(x, y):
        return [-dl.surface_charge(solution, y[0]) / solution.permittivity * solution.debye_length]

    x = np.array([0.1, 1.0, 4.0])
    sol = solve_ivp(march, [0, 4], [potential], t_eval=x, rtol=1e-11, atol=1e-13)
    got = dl.profile(solution, x * solution.debye_length, potential=potential)
    np.testing.assert_allclose(got, sol.y[0], rtol=1e-7)


@pytest.mark.parametrize("solution", [CALCIUM, UNEQUAL, _salt()])
def test_inverses(solution):
    zeta = np.array([-0.7, -0.01, 1e-6, 0.2, 0.5])
    np.testing.assert_allclose(
        dl.surface_potential(solution, dl.surface_charge(solution, zeta)), zeta, rtol=1e-9
    )
    electrode = dl.electrode_potential(solution, zeta, stern_capacitance=0.2)
    assert np.all(np.abs(electrode) > np.abs(zeta))
    np.testing.assert_allclose(
        dl.diffuse_potential(solution, electrode, stern_capacitance=0.2), zeta, rtol=1e-9
    )


def test_faults():
    with pytest.raises(ValueError, match="bulk carries 3 mol"):
        Solution((Species("Na", 1, 10.0), Species("Cl", -1, 7.0)))
    with pytest.raises(ValueError, match="concentration.*; diffusivity"):
        Species("Na", 1, -1.0, diffusivity=0.0)
    with pytest.raises(ValueError, match="fill 1.2"):
        _salt(concentration=1000.0, diameter=1e-9)
    with pytest.raises(ValueError, match="not unique"):
        Solution((Species("Na", 1, 1.0), Species("Na", -1, 1.0)))
