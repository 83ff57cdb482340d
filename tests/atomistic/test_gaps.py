"""A medium that ends before the plates, against Poisson's equation and exact averages."""

import numpy as np
import pytest
import xarray as xr
from scipy.constants import epsilon_0

from atomistic.observables.capacitance import committee
from atomistic.observables.gaps import edge_of_ions, with_gaps
from atomistic.schema import CAPACITANCE, PROFILE
from couplers.contract import check

MEDIUM = 2.5  # permittivity
APART = 24e-10  # m
GAP = 1.7e-10  # m


def solved(permittivity, charge, ions, z):
    """Potential (V) against the middle between ideal plates, field (V m-1), voltage (V)."""
    step = z[1] - z[0]
    passed = charge + np.concatenate([[0.0], np.cumsum(0.5 * (ions[1:] + ions[:-1])) * step])
    field = np.where((z > 0) & (z < APART), passed, 0.0) / (epsilon_0 * permittivity)
    phi = -np.concatenate([[0.0], np.cumsum(0.5 * (field[1:] + field[:-1])) * step])
    middle = (z > 0.4 * APART) & (z < 0.6 * APART)
    return phi - phi[middle].mean(), field, phi[0] - phi[-1]


def made(permittivity, charge=0.04):
    """A PROFILE of ions between plates in a medium, by integration; none of them in the gaps."""
    z = np.linspace(-2e-10, APART + 2e-10, 28001)
    inner = (z > GAP + 0.5e-10) & (z < APART - GAP - 0.5e-10)
    x = (z - GAP - 0.5e-10) / (APART - 2 * GAP - 1e-10)
    ions = np.where(inner, np.cos(9 * x) * np.exp(-3 * x) + 0.3 * np.sin(40 * x), 0.0)
    ions -= inner * ions.mean() / inner.mean()
    ions *= 2e8
    phi, field, voltage = solved(permittivity, charge, ions, z)
    density = 1e28 * inner
    units = {"units": "V"}
    return xr.Dataset(
        {
            "number_density": (("species", "z"), [density, density], {"units": "m-3"}),
            "charge_density": ("z", ions, {"units": "C m-3"}),
            "charge_density_std": ("z", np.full_like(z, np.nan), {"units": "C m-3"}),
            "number_density_std": (
                ("species", "z"),
                np.full((2, len(z)), np.nan),
                {"units": "m-3"},
            ),
            "charge_number": ("species", [1.0, -1.0], {"units": "1"}),
            "temperature": ((), 1100.0, {"units": "K"}),
            "potential": ("z", phi, units),
            "potential_std": ("z", np.full_like(z, 0.01), units),
            "field": ("z", field, {"units": "V m-1"}),
            "surface_charge": ((), charge, {"units": "C m-2"}),
            "surface_charge_std": ((), 2e-3, {"units": "C m-2"}),
            "electrode_potential": ((), phi[0], units),
            "electrode_potential_std": ((), 0.01, units),
            "voltage": ((), voltage, units),
            "voltage_drop": ((), voltage, units),
            "separation": ((), APART, {"units": "m"}),
        },
        coords={"z": ("z", z, {"units": "m"}), "species": ["Na", "Cl"]},
        attrs={
            "reference": "bulk",
            "boundary": "slab",
            "electrode_control": "constant potential",
        },
    )


@pytest.mark.parametrize("charge", [0.04, -0.07])
def test_a_profile_is_that_of_poisson_in_a_medium_that_ends(charge):
    throughout = made(MEDIUM, charge)
    z = throughout["z"].values
    ends = np.where((z > GAP) & (z < APART - GAP), MEDIUM, 1.0)
    phi, field, voltage = solved(ends, charge, throughout["charge_density"].values, z)
    found = with_gaps(throughout, gap=GAP, gap_std=3e-11, relative_permittivity=MEDIUM)
    check(found, PROFILE)
    assert found["potential"].values == pytest.approx(phi, abs=5e-4)
    away = np.min([abs(z), abs(z - GAP), abs(z - APART + GAP), abs(z - APART)], axis=0) > 1e-12
    assert found["field"].values[away] == pytest.approx(field[away], rel=1e-6, abs=1.0)
    assert float(found["electrode_potential"]) == pytest.approx(phi[0], abs=5e-4)
    assert float(found["voltage"]) == pytest.approx(voltage, abs=1e-3)
    # the error of the gap is what a gap wider by it would change
    wider = with_gaps(throughout, gap=GAP + 3e-11, gap_std=0.0, relative_permittivity=MEDIUM)
    own = abs(float(wider["electrode_potential"] - found["electrode_potential"]))
    assert float(found["electrode_potential_gap_std"]) == pytest.approx(own, rel=1e-9)
    assert float(found["electrode_potential_std"]) > np.hypot(own, 0.01)
    assert throughout["potential"].equals(made(MEDIUM, charge)["potential"])


def table(cell, *, charge=None, draws=0, spread=0.0, seed=0):
    """A CAPACITANCE of cells (F m-2) whose electrodes take half of the voltage each."""
    cell = np.asarray(cell, float)
    volts = np.linspace(-0.5, 0.5, len(cell))
    charge = 2 * volts * cell if charge is None else charge
    drawn = cell[:, None] * np.exp(
        spread * np.random.default_rng(seed).standard_normal((len(cell), draws))
    )
    unit, per = {"units": "F m-2"}, ("potential", "draw")
    nothing = np.full(len(cell), 1e-3)
    return xr.Dataset(
        {
            "differential_capacitance": ("potential", 2 * cell, unit),
            "differential_capacitance_std": ("potential", 2 * cell * spread, unit),
            "differential_capacitance_draw": (per, 2 * drawn, unit),
            "cell_capacitance": ("potential", cell, unit),
            "cell_capacitance_std": ("potential", cell * spread, unit),
            "cell_capacitance_draw": (per, drawn, unit),
            "surface_charge": ("potential", charge, {"units": "C m-2"}),
            "surface_charge_std": ("potential", nothing, {"units": "C m-2"}),
            "cell_voltage": ("potential", 2 * volts, {"units": "V"}),
            "potential_std": ("potential", nothing, {"units": "V"}),
        },
        coords={"potential": ("potential", volts, {"units": "V"})},
        attrs={"reference": "bulk", "method": "slope", "electrode": "right"},
    )


def test_an_empty_cell_with_a_medium_in_its_middle():
    throughout = MEDIUM * epsilon_0 / APART
    found = with_gaps(
        table([throughout] * 3, spread=0.01), gap=GAP, gap_std=0.0, relative_permittivity=MEDIUM
    )
    check(found, CAPACITANCE)
    layered = epsilon_0 / (2 * GAP + (APART - 2 * GAP) / MEDIUM)
    assert found["cell_capacitance"].values == pytest.approx(layered, rel=1e-12)
    # charge over voltage is the same number, as both electrodes' shares of it
    steep = found["surface_charge"].values[2] / found["cell_voltage"].values[2]
    assert steep == pytest.approx(layered, rel=1e-12)
    assert found["potential"].values[2] == pytest.approx(found["cell_voltage"].values[2] / 2)
    assert found["differential_capacitance"].values == pytest.approx(2 * layered, rel=1e-12)


def averages(area, voltage, series):
    """Charge, slope and fluctuation of a cell whose charge is in a potential with a fifth power."""
    charge = np.linspace(-0.25, 0.25, 40001)  # C m-2
    kt = 1.5e-20
    free = area / kt * (6.0 * charge**2 + 200.0 * charge**4 + 900.0 * charge**5)
    free += area / kt * (0.5 * series * charge**2 - charge * voltage)
    weight = np.exp(free.min() - free)
    weight /= weight.sum()
    mean = weight @ charge
    return mean, area / kt * (weight @ (charge - mean) ** 2)


def test_slope_and_fluctuation_go_over_to_the_ensemble_of_the_true_voltage():
    """Exact averages at a voltage of the model, and at the voltage that holds the gaps as well."""
    series = 2 * GAP / epsilon_0 * (1 - 1 / MEDIUM)
    off = []
    for area in (4e-18, 8e-18, 16e-18):
        charge, fluctuation = averages(area, 0.8, 0.0)
        found = with_gaps(
            table([fluctuation], charge=np.array([charge])),
            gap=GAP,
            gap_std=0.0,
            relative_permittivity=MEDIUM,
        )
        voltage = 0.8 + series * charge
        mean, worth = averages(area, voltage, series)
        step = 1e-4
        ends = [averages(area, voltage + one, series)[0] for one in (step, -step)]
        assert worth == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=1e-5)
        off.append(
            [
                float(found["cell_capacitance"][0]) / worth - 1,
                float(found["surface_charge"][0]) / mean - 1,
            ]
        )
    off = np.abs(off)
    assert (off[2] < 0.01).all()
    # what is left falls as one over the area
    assert off[1] / off[2] == pytest.approx(2.0, rel=0.15)


def test_errors_and_draws_hold_that_of_the_gap():
    cell = [0.04, 0.05, 0.045]
    throughout = table(cell, draws=4000, spread=0.05)
    settings = {"gap": GAP, "gap_std": 1.5e-11, "relative_permittivity": MEDIUM}
    found = with_gaps(throughout, **settings, seed=3)
    for name in ("cell_capacitance", "differential_capacitance"):
        drawn = found[f"{name}_draw"].values
        assert drawn.std(1) == pytest.approx(found[f"{name}_std"].values, rel=0.05)
        assert np.median(drawn, axis=1) == pytest.approx(found[name].values, rel=0.01)
    # one gap for all voltages of a draw, and for both datasets of one seed
    both = [
        with_gaps(table(cell, draws=500, spread=1e-9), **settings, seed=3)["cell_capacitance_draw"]
        for _ in range(2)
    ]
    assert np.corrcoef(both[0].values)[0, 2] > 0.99
    assert both[0].equals(both[1])
    # of a committee the gap's share is kept apart and not divided by its members
    members = [table(np.array(cell) * factor, draws=300, spread=0.02) for factor in (0.9, 1.1)]
    pooled = with_gaps(committee(members), **settings)
    exact = with_gaps(table(cell), **settings)
    share = pooled["cell_capacitance_gap_std"].values
    assert share == pytest.approx(exact["cell_capacitance_std"].values, rel=0.02)
    assert (pooled["cell_capacitance_std"] > pooled["cell_capacitance_gap_std"]).all()
    assert (pooled["cell_capacitance_model_std"] > pooled["cell_capacitance_sampling_std"]).all()


def test_the_edge_is_where_ions_come_less_their_radius():
    profiles = [made(MEDIUM, charge) for charge in (-0.04, 0.04)]
    near = GAP + 0.5e-10
    edge, error = edge_of_ions(profiles, {"Na": 1.0e-10, "Cl": 1.8e-10})
    assert edge == pytest.approx(near - 1.4e-10, abs=2e-13)
    assert error == pytest.approx(0.4e-10)
    with pytest.raises(ValueError, match=r"no radius \(m\) is given for Cl"):
        edge_of_ions(profiles, {"Na": 1e-10})
    with pytest.raises(ValueError, match="behind the plate"):
        edge_of_ions(profiles, {"Na": 3e-10, "Cl": 3e-10})


def test_numbers_out_of_range_are_refused():
    settings = {"gap": GAP, "gap_std": 0.0, "relative_permittivity": MEDIUM}
    with pytest.raises(ValueError, match="permittivity 0.5; expected"):
        with_gaps(table([0.04]), **{**settings, "relative_permittivity": 0.5})
    with pytest.raises(ValueError, match="do not fit between plates"):
        with_gaps(made(MEDIUM), **{**settings, "gap": 13e-10})
    with pytest.raises(ValueError, match="expected what profile or capacitance gave"):
        with_gaps(xr.Dataset({"energy": 1.0}), **settings)
