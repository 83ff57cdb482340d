from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from scipy.constants import Boltzmann, Planck, gas_constant
from scipy.integrate import quad

from continuum.cell import discharge, pybamm
from continuum.inputs import FARADAY, Solution, Species, Wall
from couplers.contract import ContractError
from couplers.kinetics import (
    butler_volmer,
    exchange_current,
    marcus_barrier,
    marcus_hush_chidsey,
    reorganisation_energy,
    transfer_kinetics,
)

WARM, LEVEL, ALPHA, HEIGHT, SITES = 300.0, -0.15, 0.42, 45e3, 2e-5
OTHER = {"reduction": "oxidation", "oxidation": "reduction"}
RATE = FARADAY * SITES * Boltzmann * WARM / Planck * np.exp(-HEIGHT / (gas_constant * WARM))


def energetics(
    direction: str = "reduction",
    *,
    error: float = 300.0,
    potential: np.ndarray | None = None,
    barrier: np.ndarray | None = None,
) -> xr.Dataset:
    if potential is None:
        potential = np.linspace(-0.4, 0.1, 6)
    drive = FARADAY * (potential - LEVEL)
    if barrier is None:
        barrier = HEIGHT + ALPHA * drive - (drive if direction == "oxidation" else 0.0)
    along = "potential"
    return xr.Dataset(
        {
            "temperature": ((), WARM, {"units": "K"}),
            "barrier": (along, barrier, {"units": "J mol-1"}),
            "barrier_std": (along, np.full(len(potential), error), {"units": "J mol-1"}),
        },
        coords={along: (along, potential, {"units": "V"})},
        attrs={"reference": "solution", "direction": direction},
    )


def fitted(dataset: xr.Dataset, **changes: float) -> xr.Dataset:
    return transfer_kinetics(
        dataset, **{"equilibrium_potential": LEVEL, "site_density": SITES, **changes}
    )


@pytest.mark.parametrize("direction", ["reduction", "oxidation"])
def test_line_of_barriers_gives_its_coefficient_and_current(direction: str) -> None:
    found = fitted(energetics(direction))
    assert float(found["transfer_coefficient"]) == pytest.approx(ALPHA, rel=1e-9)
    assert float(found["exchange_current_density"]) == pytest.approx(RATE, rel=1e-9)
    assert found.attrs["outcome"] == "the barriers lie on a line within their errors"
    with pytest.raises(ValueError, match="must lie from 0 to 1; check the direction"):
        fitted(energetics(direction).assign_attrs(direction=OTHER[direction]))


def test_errors_cover_the_truth() -> None:
    rng = np.random.default_rng(4)
    exact, pulls, factor = energetics(), [], []
    for _ in range(200):
        noisy = exact.copy(deep=True)
        noisy["barrier"].values += 300.0 * rng.standard_normal(6)
        found = fitted(noisy)
        pulls.append(
            float((found["transfer_coefficient"] - ALPHA) / found["transfer_coefficient_std"])
        )
        spread = np.log(found["exchange_current_density_draw"].values)
        factor.append((np.log(float(found["exchange_current_density"]) / RATE)) / spread.std())
    assert np.std(pulls) == pytest.approx(1.0, rel=0.15)
    assert np.std(factor) == pytest.approx(1.0, rel=0.15)


def test_unknown_errors_come_from_the_scatter() -> None:
    rng = np.random.default_rng(8)
    potential = np.linspace(-0.4, 0.1, 40)
    dataset = energetics(error=np.nan, potential=potential)
    dataset["barrier"].values += 500.0 * rng.standard_normal(40)
    scatter = fitted(dataset)
    dataset["barrier_std"].values[:] = 500.0
    told = fitted(dataset)
    assert float(scatter["transfer_coefficient_std"]) == pytest.approx(
        float(told["transfer_coefficient_std"]), rel=0.3
    )


def test_boundary_is_at_rest_at_equilibrium_and_turns_with_the_right_sign() -> None:
    """Flux N into the solution: anodic above, cathodic below, i = n F N with slopes alpha."""
    wall = butler_volmer(fitted(energetics()), species="Li", concentration=900.0)

    def current(potential: float, concentration: float = 900.0) -> float:
        slope = FARADAY / (gas_constant * WARM)
        anodic = wall.anodic_rate * np.exp((1 - wall.transfer_coefficient) * slope * potential)
        cathodic = wall.cathodic_rate * concentration
        return FARADAY * (
            anodic - cathodic * np.exp(-wall.transfer_coefficient * slope * potential)
        )

    assert abs(current(LEVEL)) < 1e-10 * RATE
    volt = gas_constant * WARM / FARADAY
    assert current(LEVEL + 0.3) == pytest.approx(RATE * np.exp((1 - ALPHA) * 0.3 / volt), rel=1e-3)
    assert current(LEVEL - 0.3) == pytest.approx(-RATE * np.exp(ALPHA * 0.3 / volt), rel=1e-3)
    # Nernst: twice the concentration moves the equilibrium by RT/F ln 2
    assert abs(current(LEVEL + volt * np.log(2), 1800.0)) < 1e-9 * RATE


def test_boundary_reaches_the_nernst_planck_solver() -> None:
    """Two such electrodes with much salt between them: i = i_0 F dV / 2 RT, and none at rest."""
    from continuum.nernst_planck import solve

    salt = Solution(
        (Species("Li", 1, 900.0, diffusivity=1e-8), Species("A", -1, 900.0, diffusivity=1e-8)),
        temperature=WARM,
    )
    wall = butler_volmer(fitted(energetics(), site_density=2e-9), species="Li", concentration=900.0)
    current, flux = RATE * 2e-9 / SITES, []
    for volts in (0.0, 1e-3, -1e-3):
        walls = {
            "left": Wall(potential=volts, reaction=wall),
            "right": Wall(potential=0.0, reaction=wall),
        }
        got = solve(salt, walls, length=1e-4, electroneutral=True)
        flux.append(FARADAY * float(got["flux"].sel(species="Li")))
    assert abs(flux[0]) < 1e-5 * current
    expected = current * FARADAY * 1e-3 / (2 * gas_constant * WARM)
    assert flux[1:] == pytest.approx([expected, -expected], rel=5e-3)


def test_exchange_current_reaches_pybamm_in_its_own_form() -> None:
    """With alpha = 1/2 it is PyBaMM's k sqrt(c_e c_s (c_max - c_s))."""
    half = fitted(energetics(barrier=HEIGHT + 0.5 * FARADAY * (np.linspace(-0.4, 0.1, 6) - LEVEL)))
    ours = exchange_current(half, concentration=1000.0)
    c = (500.0, 12e3, 33133.0, 310.0)
    scale = 2 * RATE / np.sqrt(1000.0) / 33133.0
    thermal = 310 / WARM * np.exp(-HEIGHT / gas_constant * (1 / 310 - 1 / WARM))
    assert ours(*c) == pytest.approx(
        scale * thermal * np.sqrt(c[0] * c[1] * (c[2] - c[1])), rel=1e-9
    )
    symbols = ours(*(pybamm.Scalar(number) for number in c))
    assert float(symbols.evaluate()) == pytest.approx(ours(*c), rel=1e-12)

    values = pybamm.ParameterValues("Chen2020")
    key = "Negative electrode exchange-current density [A.m-2]"
    volts = []
    for function in (
        ours,
        lambda c_e, c_s, c_max, T: (
            scale
            * T
            / WARM
            * np.exp(-HEIGHT / gas_constant * (1 / T - 1 / WARM))
            * (c_e * c_s * (c_max - c_s)) ** 0.5
        ),
    ):
        values[key] = function
        mesh = {"x_n": 8, "x_s": 4, "x_p": 8}
        run = discharge(values, c_rates=[0.5], model="SPMe", mesh_points=mesh)
        volts.append(run["voltage"].dropna("time"))
    assert float(abs(volts[0] - volts[1]).max()) < 1e-4


def test_asymmetric_exchange_current_follows_from_balanced_rates() -> None:
    """Forward and backward rates at the Nernst potential of each state give j_0 without a fit."""
    found = fitted(energetics())
    ours = exchange_current(found, concentration=1000.0, stoichiometry=0.4)
    slope = FARADAY / (gas_constant * WARM)
    for salt, x in ((500.0, 0.2), (1500.0, 0.9)):
        # cathodic a c (1 - x) exp(-alpha s E) = anodic b x exp((1 - alpha) s E)
        a, b = RATE / 1000.0 / 0.6, RATE / 0.4
        level = np.log(a * salt * (1 - x) / (b * x)) / slope
        rate = a * salt * (1 - x) * np.exp(-ALPHA * slope * level)
        assert ours(salt, x * 3e4, 3e4, WARM) == pytest.approx(rate, rel=1e-9)


@pytest.mark.parametrize("asymmetry", [0.0, 0.3, -0.3])
def test_marcus_is_butler_volmer_at_small_overpotential(asymmetry: float) -> None:
    energy, step = 90e3, 1e-4

    def barrier(eta: float) -> float:
        return float(marcus_barrier(eta, reorganisation_energy=energy, asymmetry=asymmetry))

    alpha = (barrier(step) - barrier(-step)) / (2 * step * FARADAY)
    assert alpha == pytest.approx(0.5 + asymmetry / 4, rel=1e-7)
    if asymmetry == 0:
        # oxidation at -eta is reduction at eta: the theory knows no sign
        for eta in (0.1, 0.5):
            assert barrier(-eta) - FARADAY * -eta == pytest.approx(barrier(eta), rel=1e-12)
        assert barrier(-energy / FARADAY) == pytest.approx(0.0, abs=1e-9)
        assert barrier(-1.5 * energy / FARADAY) > 0, "inverted region"


def test_bent_barriers_are_seen_and_fitted() -> None:
    """lambda of 80 kJ/mol: a line does not do, the fit of Marcus's parabola does."""
    potential = LEVEL + np.linspace(-0.6, 0.3, 7)
    exact = marcus_barrier(potential - LEVEL, reorganisation_energy=80e3)
    drive = FARADAY * (potential - LEVEL)
    for direction, barrier in (("reduction", exact), ("oxidation", exact - drive)):
        dataset = energetics(direction, potential=potential, barrier=barrier)
        assert "use a reorganisation energy" in fitted(dataset).attrs["outcome"]
        found = reorganisation_energy(dataset, equilibrium_potential=LEVEL)
        assert float(found["reorganisation_energy"]) == pytest.approx(80e3, rel=1e-9)
    rng = np.random.default_rng(1)
    pulls = []
    for _ in range(200):
        noisy = energetics(
            potential=potential, barrier=exact + 300.0 * rng.standard_normal(len(potential))
        )
        found = reorganisation_energy(noisy, equilibrium_potential=LEVEL)
        pulls.append(
            float((found["reorganisation_energy"] - 80e3) / found["reorganisation_energy_std"])
        )
    assert np.std(pulls) == pytest.approx(1.0, rel=0.2)


def chidsey(y: float, big: float) -> float:
    """Oxidation less reduction by adaptive quadrature, in thermal units."""

    def one(z: float) -> float:
        return quad(
            lambda x: np.exp(-((x - big + z) ** 2) / (4 * big) - np.logaddexp(0, x)),
            -150,
            150,
            limit=500,
            points=[0.0, big - z],
            epsabs=0,
            epsrel=1e-10,
        )[0]

    return (one(y) - one(-y)) / one(0.0)


@pytest.mark.parametrize("energy", [10e3, 50e3, 100e3])
def test_rate_of_a_metal_is_chidseys_integral(energy: float) -> None:
    volt = gas_constant * WARM / FARADAY
    big = energy / (gas_constant * WARM)
    etas = np.array([-0.6, -0.1, 0.02, 0.3])
    ours = marcus_hush_chidsey(etas, reorganisation_energy=energy, temperature=WARM)
    expected = [chidsey(eta / volt, big) for eta in etas]
    np.testing.assert_allclose(ours, expected, rtol=1e-7)
    assert (np.sign(ours) == np.sign(etas)).all()
    # Butler-Volmer with a half where the overpotential is small beside lambda
    big_one = 400e3
    small = 0.5 * volt
    line = 2 * np.sinh(0.25)
    found = float(marcus_hush_chidsey(small, reorganisation_energy=big_one, temperature=WARM))
    assert found == pytest.approx(line, rel=0.01)
    # and a plateau far beyond it
    far = marcus_hush_chidsey(np.array([3.0, 4.0]), reorganisation_energy=energy, temperature=WARM)
    assert far[1] == pytest.approx(far[0], rel=0.02)


def test_bad_input_is_one_clear_sentence() -> None:
    with pytest.raises(ValueError) as error:
        fitted(
            energetics().assign_attrs(direction="none").isel(potential=[0]),
            site_density=-1.0,
            equilibrium_potential=np.nan,
        )
    for word in ("direction is 'none'", "site_density is -1", "equilibrium_potential", "at 1 pot"):
        assert word in str(error.value)
    with pytest.raises(ValueError, match="there is no barrier"):
        fitted(energetics().drop_vars(["barrier", "barrier_std"]))
    stale = energetics()
    stale["barrier"].attrs["units"] = "eV"
    with pytest.raises(ContractError, match="barrier has units 'eV', expected 'J mol-1'"):
        fitted(stale)
    with pytest.raises(ValueError, match="intercalation takes 1 electron, not 2"):
        exchange_current(fitted(energetics(), electrons=1.0).assign(electrons=2.0), concentration=1)
    with pytest.raises(ValueError, match="concentration is 0"):
        butler_volmer(fitted(energetics()), species="Li", concentration=0)
    with pytest.raises(ValueError, match="reorganisation_energy .J mol-1. is 0"):
        marcus_barrier(0.1, reorganisation_energy=0)
