from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from scipy.constants import Avogadro, gas_constant

from continuum import double_layer as closed
from continuum.inputs import FARADAY, Interface, Solution, Species, Wall
from couplers.contract import ContractError
from couplers.double_layer import inner_layer, interface, mean_forces

SALT = Solution((Species("Na", 1, 100.0), Species("Cl", -1, 100.0)), temperature=300.0)
ZERO = 0.37  # V


def stern(charge: np.ndarray) -> np.ndarray:
    """A hump over charge, not symmetric."""
    return 0.25 / (1 + 8 * (charge - 0.02) ** 2 / 0.1**2)


def inner(charge: np.ndarray) -> np.ndarray:
    """Integral of 1 / stern, 0 without charge."""
    a, b = 8 / 0.1**2, 0.02
    return (charge + a * ((charge - b) ** 3 + b**3) / 3) / 0.25


def capacitance(*, points: int = 41, reach: float = 0.1, relative: float = 0.01) -> xr.Dataset:
    """Charge and capacitance of this inner layer in series with Gouy and Chapman's."""
    charge = np.linspace(-reach, reach, points)
    diffuse = closed.surface_potential(SALT, charge)
    potential = ZERO + inner(charge) + diffuse
    total = 1 / (1 / stern(charge) + 1 / closed.capacitance(SALT, diffuse))
    along = "potential"
    return xr.Dataset(
        {
            "differential_capacitance": (along, total, {"units": "F m-2"}),
            "differential_capacitance_std": (along, relative * total, {"units": "F m-2"}),
            "surface_charge": (along, charge, {"units": "C m-2"}),
            "surface_charge_std": (along, np.full(points, 1e-4), {"units": "C m-2"}),
        },
        coords={along: (along, potential, {"units": "V"})},
        attrs={"reference": "bulk", "method": "fluctuations of the charge"},
    )


def well(distance: np.ndarray) -> np.ndarray:
    """Attraction 0.5 nm from the electrode (J mol-1), for one ion."""
    return -4e3 * np.exp(-(((distance - 5e-10) / 1e-10) ** 2))


def profile(*, mirrored: bool = False, electrode: float = 0.0, charge: float = 0.02) -> xr.Dataset:
    """Ions of known mean forces, kept 0.3 nm away, in the field of a charged wall."""
    distance = (np.arange(400) + 0.5) * 2e-11
    plane, thermal = 3e-10, gas_constant * SALT.temperature
    zeta = float(closed.surface_potential(SALT, charge))
    field = charge / (2 * SALT.permittivity)
    potential = np.where(
        distance > plane,
        closed.profile(SALT, np.maximum(distance - plane, 0.0), potential=zeta),
        zeta + field * (plane - distance),
    )
    density = []
    for ion, force in zip(SALT.species, (well(distance), 0.0 * distance), strict=True):
        exponent = -(ion.charge_number * FARADAY * potential + force) / thermal
        density.append(Avogadro * ion.concentration * np.exp(exponent) * (distance > plane))
    z = electrode - distance if mirrored else electrode + distance
    order = np.argsort(z)
    n = np.array(density)[:, order]
    rho = FARADAY / Avogadro * (n[0] - n[1])
    return xr.Dataset(
        {
            "temperature": ((), SALT.temperature, {"units": "K"}),
            "charge_number": ("species", [1.0, -1.0], {"units": "1"}),
            "number_density": (("species", "z"), n, {"units": "m-3"}),
            "number_density_std": (("species", "z"), 0.05 * n + 1e20, {"units": "m-3"}),
            "charge_density": ("z", rho, {"units": "C m-3"}),
            "charge_density_std": ("z", np.full(400, np.nan), {"units": "C m-3"}),
            "potential": ("z", potential[order] + 1.2, {"units": "V"}),
            "potential_std": ("z", np.full(400, 1e-3), {"units": "V"}),
            "surface_charge": ((), charge, {"units": "C m-2"}),
            "surface_charge_std": ((), np.nan, {"units": "C m-2"}),
        },
        coords={"z": ("z", z[order], {"units": "m"}), "species": ["Na", "Cl"]},
        attrs={"reference": "vacuum", "boundary": "slab", "electrode_control": "charge"},
    )


def test_inner_layer_is_what_the_diffuse_layer_leaves() -> None:
    layer = inner_layer(capacitance(), solution=SALT)
    charge = layer["surface_charge"].values
    np.testing.assert_allclose(layer["stern_capacitance"], stern(charge), rtol=1e-9)
    assert float(layer["potential_of_zero_charge"]) == pytest.approx(ZERO, abs=1e-9)
    np.testing.assert_allclose(layer["inner_potential"], inner(charge), atol=1e-9)
    assert float(abs(layer["mismatch"]).max()) < 1e-3


def test_wrong_sign_of_charge_does_not_pass() -> None:
    wrong = capacitance()
    wrong["surface_charge"] = (-wrong["surface_charge"]).assign_attrs(units="C m-2")
    with pytest.raises(ValueError, match="it must rise: .* mind the sign"):
        inner_layer(wrong, solution=SALT)


def test_capacitance_and_charge_that_disagree_show_as_mismatch() -> None:
    wrong = capacitance()
    wrong["differential_capacitance"] = (0.9 * wrong["differential_capacitance"]).assign_attrs(
        units="F m-2"
    )
    layer = inner_layer(wrong, solution=SALT)
    assert float(abs(layer["mismatch"]).max()) > 0.05
    assert "mV" in layer.attrs["outcome"]


def test_error_of_the_inner_layer_is_that_of_many_noisy_capacitances() -> None:
    """Monte Carlo: 1 % of C is more than 1 % of C_H, by C_H / C."""
    rng = np.random.default_rng(5)
    exact = capacitance(points=9)
    found = []
    for _ in range(400):
        noisy = exact.copy(deep=True)
        noisy["differential_capacitance"].values *= 1 + 0.01 * rng.standard_normal(9)
        found.append(inner_layer(noisy, solution=SALT)["stern_capacitance"].values)
    expected = inner_layer(exact, solution=SALT)["stern_capacitance_std"].values
    # the charge's own error, 1e-4 C m-2, adds little here
    np.testing.assert_allclose(np.std(found, axis=0), expected, rtol=0.15)


def test_draws_give_interfaces_that_scatter_as_the_error_says() -> None:
    rng = np.random.default_rng(2)
    dataset = capacitance(points=9)
    noise = 1 + 0.01 * rng.standard_normal((9, 300))
    total = dataset["differential_capacitance"].values
    dataset["differential_capacitance_draw"] = (
        ("potential", "draw"),
        total[:, None] * noise,
        {"units": "F m-2"},
    )
    drawn = [interface(dataset, solution=SALT, draw=k).stern_capacitance for k in range(300)]
    expected = inner_layer(dataset, solution=SALT)["stern_capacitance_std"].values
    np.testing.assert_allclose(np.std(drawn, axis=0), expected, rtol=0.2)
    with pytest.raises(ValueError, match="draw is 300, but there are 300"):
        interface(dataset, solution=SALT, draw=300)


def test_interface_integrates_its_capacitance() -> None:
    made = interface(capacitance(points=81), solution=SALT)
    charge = np.linspace(-0.1, 0.1, 33)
    np.testing.assert_allclose(made.inner_potential(charge), inner(charge), atol=5e-4)
    assert float(made.inner_potential(0.0)) == 0.0
    beyond = made.inner_potential([0.1, 0.11])
    assert np.diff(beyond)[0] == pytest.approx(0.01 / stern(np.array(0.1)), rel=1e-6)
    step = 1e-7
    slope = (made.inner_potential(charge + step) - made.inner_potential(charge - step)) / (2 * step)
    np.testing.assert_allclose(1 / slope[1:-1], made.capacitance(charge)[1:-1], rtol=1e-5)


@pytest.mark.parametrize("mirrored", [False, True])
def test_mean_forces_are_those_that_made_the_profile(mirrored: bool) -> None:
    electrode = 4e-9
    bulk = (electrode - 7.9e-9, electrode - 6e-9) if mirrored else (10e-9, 11.9e-9)
    forces = mean_forces(
        profile(mirrored=mirrored, electrode=electrode), electrode=electrode, bulk=bulk
    )
    distance = forces["distance"].values
    away = distance > 3.2e-10
    thermal = gas_constant * SALT.temperature
    np.testing.assert_allclose(
        forces["mean_force"].sel(species="Na")[away] / thermal,
        well(distance[away]) / thermal,
        atol=0.01,
    )
    np.testing.assert_allclose(
        forces["mean_force"].sel(species="Cl")[away] / thermal, 0.0, atol=0.01
    )
    assert float(forces["plane_of_closest_approach"]) == pytest.approx(3e-10, abs=2e-11)
    assert float(forces["plane_of_closest_approach_std"]) < 2e-11
    assert forces["bulk_concentration"].values == pytest.approx([100.0, 100.0], rel=0.01)
    # 5 % of the density and 1 mV: both errors count
    std = float(forces["mean_force_std"].sel(species="Cl").sel(distance=5e-9, method="nearest"))
    assert std == pytest.approx(np.hypot(0.05 * thermal, FARADAY * 1e-3), rel=0.05)


def test_solver_gives_the_profile_back() -> None:
    """PROFILE to mean forces to Poisson-Boltzmann to the densities that the profile had."""
    from continuum.poisson_boltzmann import solve

    made = interface(
        capacitance(), solution=SALT, profile=profile(charge=0.0), electrode=0.0, bulk=(6e-9, 8e-9)
    )
    assert made.plane_of_closest_approach == pytest.approx(3e-10, abs=2e-11)
    forces = {"Na": lambda x: made.mean_force_profile("Na", x)}
    found = solve(SALT, {"left": Wall(surface_charge=0.0)}, mean_force=forces, cells=400)
    x = found["x"].values
    expected = 100.0 * np.exp(
        -(well(x + made.plane_of_closest_approach) + FARADAY * found["potential"].values)
        / (gas_constant * SALT.temperature)
    )
    near = x < 2e-9
    np.testing.assert_allclose(
        found["concentration"].sel(species="Na")[near], expected[near], rtol=0.02
    )
    assert float(found["concentration"].sel(species="Na").max()) > 300


def test_profile_of_another_solution_is_refused() -> None:
    other = Solution((Species("Na", 1, 150.0), Species("Br", -1, 150.0)), temperature=310.0)
    with pytest.raises(ValueError) as error:
        interface(capacitance(), solution=other, profile=profile(), bulk=(6e-9, 8e-9))
    assert "Na has" in str(error.value) and "150 in the solution" in str(error.value)
    assert "Br is not among the profile's species Na, Cl" in str(error.value)
    assert "of 300 K, the solution of 310 K" in str(error.value)


def test_bad_input_is_one_clear_sentence() -> None:
    stale = capacitance()
    stale["surface_charge"].attrs["units"] = "C cm-2"
    with pytest.raises(ContractError, match="surface_charge has units 'C cm-2'"):
        inner_layer(stale, solution=SALT)
    strong = capacitance()
    strong["differential_capacitance"].values[:] = 3.0
    with pytest.raises(ValueError, match="nothing is left for the inner layer"):
        inner_layer(strong, solution=SALT)
    with pytest.raises(ValueError, match="do not enclose zero"):
        inner_layer(capacitance().isel(potential=slice(25, None)), solution=SALT)
    with pytest.raises(ValueError, match="one potential"):
        inner_layer(capacitance().isel(potential=[3]), solution=SALT)
    with pytest.raises(ValueError, match="lies in the bulk range"):
        mean_forces(profile(), electrode=7e-9, bulk=(6e-9, 8e-9))
    with pytest.raises(ValueError, match="no point of z"):
        mean_forces(profile(), electrode=0.0, bulk=(6e-6, 8e-6))
    with pytest.raises(ValueError, match="needs the range of z"):
        interface(capacitance(), solution=SALT, profile=profile())
    with pytest.raises(ValueError) as error:
        Interface(np.nan, (0.1, 0.0), (0.2, -0.2), distance=(0.0, 1e-9), mean_force={"Na": (1.0,)})
    for word in ("zero_charge", "increase", "not positive", "Na has 1 values at 2 distances"):
        assert word in str(error.value)
