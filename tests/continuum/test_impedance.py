"""Impedance against exact admittances and against the charges of neighbouring steady states."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
from scipy.constants import physical_constants

from continuum import nernst_planck as npl
from continuum.impedance import spectrum
from continuum.inputs import ButlerVolmer, Solution, Species, Wall

FARADAY = physical_constants["Faraday constant"][0]
D = 1e-9
SALT = Solution((Species("cation", 1, 10.0, D), Species("anion", -1, 10.0, D)))
VOLT = SALT.thermal_voltage
DEBYE = SALT.debye_length


def _impedance(*args, **kwargs) -> np.ndarray:
    got = spectrum(*args, **kwargs)
    assert got.resistance.attrs["units"] == got.reactance.attrs["units"] == "ohm m2"
    return got.resistance.values + 1j * got.reactance.values


@pytest.mark.parametrize(
    ("eps", "cells"), [(0.2, 200), (0.02, 200), (1e-3, 200), (1e-4, 400), (1e-5, 400)]
)
def test_blocking_cell_over_six_decades(eps, cells):
    delta, half = 0.1, DEBYE / eps
    stern = SALT.permittivity / (delta * DEBYE)
    wall = Wall(potential=0.0, stern_capacitance=stern)
    omega = np.logspace(-3, 3, 19) / eps
    got = _impedance(
        SALT,
        {"left": wall, "right": wall},
        length=2 * half,
        frequencies=omega * D / half**2 / (2 * np.pi),
        cells=cells,
    )
    exact = []
    for w in omega:
        s = mpmath.mpc(0, w)
        k = mpmath.sqrt(s + 1 / mpmath.mpf(eps) ** 2)
        charge = eps**2 * k / (mpmath.tanh(k) / (eps * k) ** 2 + s / k + delta * eps * k)
        exact.append(complex(2 / (s * charge)))
    unit = SALT.permittivity * D / half**3 / eps**2
    np.testing.assert_allclose(got * unit, exact, rtol=1e-7)


def test_held_walls_are_the_limit_of_stiff_stern_layers():
    hertz = [1e3, 1e6, 1e9]
    length = 40 * DEBYE
    held = {"left": Wall(potential=0.0), "right": Wall(potential=0.05)}
    stiff = {
        name: Wall(potential=wall.potential, stern_capacitance=1e6) for name, wall in held.items()
    }
    np.testing.assert_allclose(
        _impedance(SALT, held, length=length, frequencies=hertz),
        _impedance(SALT, stiff, length=length, frequencies=hertz),
        rtol=1e-6,
    )


@pytest.mark.parametrize("bias", [0.0, 3.0])
def test_slow_limit_is_the_derivative_of_the_steady_charge(bias):
    length, step = 30 * DEBYE, 1e-3

    def walls(v):
        return {
            "left": Wall(potential=0.0, stern_capacitance=0.3),
            "right": Wall(potential=v * VOLT),
        }

    charge = [
        float(npl.solve(SALT, walls(bias + s), length=length, cells=400).surface_charge[1])
        for s in (-step, step)
    ]
    hertz = 1e-3 * D / length**2
    z = _impedance(SALT, walls(bias), length=length, frequencies=[hertz])
    capacitance = float((1 / (2j * np.pi * hertz * z)).real[0])
    assert capacitance == pytest.approx((charge[1] - charge[0]) / (2 * step * VOLT), rel=1e-5)


def test_randles_with_a_finite_warburg_element():
    """Neutral symmetric cell: solution, two charge transfers and tanh diffusion, in series."""
    length, rate = 1e-4, 3.0 * D / 1e-4
    transfer = ButlerVolmer("cation", rate * 10.0, rate)
    wall = Wall(potential=0.0, reaction=transfer)
    omega = np.logspace(-3, 5, 17) * D / length**2
    got = _impedance(
        SALT,
        {"left": wall, "right": wall},
        length=length,
        frequencies=omega / (2 * np.pi),
        electroneutral=True,
    )
    k = np.sqrt(1j * omega / D)
    exact = (
        VOLT
        / FARADAY
        * (2 / (rate * 10.0) + length / (2 * D * 10.0) + np.tanh(k * length / 2) / (D * k * 10.0))
    )
    np.testing.assert_allclose(got, exact, rtol=1e-6)


def test_layers_close_the_randles_circuit():
    """With Poisson and thin layers the transfer is shorted by C at high frequency."""
    length, rate = 2e-6, 30.0 * D / 2e-6
    transfer = ButlerVolmer("cation", rate * 10.0, rate)
    wall = Wall(potential=0.0, stern_capacitance=0.2, reaction=transfer)
    walls = {"left": wall, "right": wall}
    slow = D / length**2 * 1e-3
    z = _impedance(SALT, walls, length=length, frequencies=[slow, 1e6])
    neutral = _impedance(SALT, walls, length=length, frequencies=[slow], electroneutral=True)
    assert z[0].real == pytest.approx(neutral[0].real, rel=0.02)
    bulk = VOLT / FARADAY * length / (2 * D * 10.0)
    assert z[1].real == pytest.approx(bulk, rel=0.06)
    assert z[0].real > 1.5 * z[1].real


def test_faults_are_listed_together():
    walls = {"left": Wall(potential=0.0)}
    with pytest.raises(ValueError, match="no potential.*frequencies"):
        spectrum(SALT, walls, length=1e-7, frequencies=[-1.0])
    with pytest.raises(ValueError, match="blocks"):
        spectrum(SALT, walls, length=1e-7, frequencies=[1.0], wall="left", electroneutral=True)
