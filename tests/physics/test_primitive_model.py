"""Ions between constant-potential walls against Poisson and Boltzmann: both leaves at once."""

import numpy as np
import pytest
import torch
import torch_sim as ts
import xarray as xr
from ase import Atoms
from scipy.constants import epsilon_0
from scipy.integrate import quad
from scipy.interpolate import interp1d

from atomistic.electrostatics.electrodes import ConstantPotential, Electrode
from atomistic.observables import layers
from atomistic.observables.capacitance import capacitance
from atomistic.observables.interface import profile
from couplers.double_layer import interface
from couplers.matching import match

VOLTAGES = (4.0, 12.0)
FRAMES = 40


@pytest.fixture(scope="module")
def study(example):
    return example("primitive_model_capacitor")


@pytest.fixture(scope="module")
def equations(study):
    """Poisson and Boltzmann's answer, at each voltage."""
    return {voltage: study.continuum(voltage) for voltage in VOLTAGES}


def placed(study, field, seed):
    """The cell with its ions where Poisson and Boltzmann's densities put them, evenly in quantile.

    So an average over few frames is one over their profile, with hardly any noise.
    """
    atoms = study.cell(seed)
    rng = np.random.default_rng(seed)
    x = field["x"].values * 1e10
    for index, name in enumerate(("Na", "Cl")):
        density = field["concentration"].sel(species=name).values
        share = np.concatenate([[0.0], np.cumsum(0.5 * (density[1:] + density[:-1]) * np.diff(x))])
        quantile = (np.arange(study.IONS // 2) + rng.random(study.IONS // 2)) / (study.IONS // 2)
        z = interp1d(share / share[-1], x)(rng.permutation(quantile))
        atoms.positions[-study.IONS :][index * len(z) : (index + 1) * len(z), 2] = z
    return atoms


@pytest.fixture(scope="module")
def mean_field(study, equations):
    """An observer that was shown ions in the mean field of either voltage, and the model."""
    each = [sign * one for one in VOLTAGES for sign in (1, -1)]
    model = study.potential(each, dtype=torch.float64)
    seen = layers.start(model.model, bins=800, blocks=FRAMES)
    for frame in range(FRAMES):
        batch = []
        for number, voltage in enumerate(each):
            atoms = placed(study, equations[abs(voltage)], 100 * number + frame)
            if voltage < 0:
                atoms.positions[-study.IONS :, 2] = study.GAP - atoms.positions[-study.IONS :, 2]
            batch.append(atoms)
        state = ts.io.atoms_to_state(batch, "cpu", torch.float64)
        out = model.model(state)
        shape = (len(batch), -1)
        layers.push(
            seen,
            state.positions.reshape(*shape, 3),
            out["charges"].reshape(shape),
            out["electrode_charge"],
        )
    return seen, model


def test_ions_in_the_mean_field_induce_the_charge_of_the_equation(study, mean_field):
    table = study.compare(*mean_field, VOLTAGES)
    assert table["md_charge"].values == pytest.approx(table["pb_charge"].values, rel=2e-3)
    assert table["voltage_drop"].values == pytest.approx(VOLTAGES, rel=1e-3)
    assert (table["potential_rms"] < 0.01).all()


def test_the_coupler_hands_the_charge_on(study, mean_field):
    seen, model = mean_field
    found = capacitance(
        seen, model.model, electrode="right", temperature=study.TEMPERATURE, draws=50
    )
    over = study.handed_over(found, study.compare(seen, model, VOLTAGES))
    assert len(over["potential"]) == 4
    assert bool(over["converged"].all())
    # a charge is predicted from the inner layer that the other voltages show
    ratio = over["surface_charge"] / over["md_surface_charge"]
    assert ratio.values == pytest.approx(1.0, abs=0.03)
    # the walls, on average, keep ions at a distance of the integral of 1 - exp(-u/kT)
    distance = (study.CLOSEST + np.euler_gamma * study.SOFT) * 1e-10
    helmholtz = epsilon_0 * study.PERMITTIVITY / distance
    stern = over["md_surface_charge"] / over["md_inner_potential"]
    # at 12 kT/e so few ions are left between that the plates feel each other
    assert stern.values[1:3] == pytest.approx(helmholtz, rel=0.03)


def test_datasets_go_through_the_couplers_as_they_are(study, mean_field, equations):
    seen, model = mean_field
    salt = study.solution(equations[4.0].attrs["bulk_concentration"])
    found = capacitance(
        seen, model.model, electrode="left", temperature=study.TEMPERATURE, draws=20
    ).isel(potential=[1, 2])
    layer = profile(
        seen,
        model.model,
        electrode="left",
        voltage=-4.0 * study.THERMAL,
        temperature=study.TEMPERATURE,
        charge_numbers={"Na": 1.0, "Cl": -1.0},
    )
    gap = study.GAP * 1e-10
    made = interface(found, solution=salt, profile=layer, bulk=(0.4 * gap, 0.6 * gap))
    assert set(made.mean_force) == {"Na", "Cl"}
    # nearer than the walls' kT no ion is at half of its density in the bulk
    near = made.plane_of_closest_approach * 1e10
    assert study.CLOSEST - study.UNIT < near < study.CLOSEST + study.UNIT
    met = match(salt, made, potentials=found["potential"].values.tolist())
    ratio = met["surface_charge"].values / found["surface_charge"].values
    assert ratio == pytest.approx(1.0, abs=0.15)


def test_dynamics_stay_in_the_mean_field(study, equations):
    """A short run from the equation's ions must not leave its charge."""
    voltage, field = 12.0, equations[12.0]
    seen, run = study.run(
        150.0,
        voltages=(voltage,),
        replicas=3,
        begin=lambda _, seed: placed(study, field, seed),
    )
    table = study.compare(seen, run, (voltage,))
    assert float(table["md_charge"][0]) == pytest.approx(float(table["pb_charge"][0]), rel=0.04)
    assert float(table["potential_rms"][0]) < 0.1


@pytest.mark.parametrize("voltage", VOLTAGES)
def test_mean_field_of_points_is_that_of_finite_elements(study, equations, voltage):
    unit = (study.WIDTH * 1e-10) ** 2 / study.elementary_charge
    solved = float(equations[voltage]["surface_charge"].sel(wall="right")) * unit
    assert study.mean_field(voltage, 0.0)[0] == pytest.approx(solved, rel=5e-5)


def test_one_ion_fluctuates_by_the_energy_of_its_images(study):
    """Between the electrodes of the dynamics, at several heights, against the loop's first order.

    The metal shields all images but those of the ion itself and of its neighbours in the lattice
    that the periodic cell makes of it.
    """
    points, _, _ = study.line(1)
    chosen = np.array([np.abs(points - z * study.UNIT).argmin() for z in (3, 4, 8, 20, 40)])
    atoms, held = study.plates(
        study.SITES, study.WIDTH / study.SITES, study.GAP, room=6 * study.UNIT
    )
    model = ConstantPotential(
        atoms + Atoms("Na", [[0.0, 0.0, study.GAP / 2]]),
        {
            name: Electrode(sites, width=study.ideal_width(study.WIDTH / study.SITES))
            for name, sites in held.items()
        },
        {"Na": 1.0},
        potentials={name: [0.0] * 4 * len(chosen) for name in held},
        boundary="finite field",
        widths={"Na": study.UNIT},
        relative_permittivity=study.PERMITTIVITY,
        cutoff=14 * study.UNIT,
    )
    # over an atom of the plates, a hollow and two bridges, for what is lumpy to cancel
    half = study.WIDTH / study.SITES / 2
    places = [(x, y, points[one]) for one in chosen for x in (0, half) for y in (0, half)]
    batch = [atoms + Atoms("Na", [place]) for place in places]
    energy = model(ts.io.atoms_to_state(batch, "cpu", torch.float64))["energy"]
    felt = energy.numpy().reshape(-1, 4).mean(1) / study.THERMAL
    expected = []
    few = 1e-5  # ions, so that they do not shield each other
    for one in chosen:
        ions = np.zeros((2, len(points)))
        ions[0, one] = few / study.WIDTH**2 / (points[1] - points[0])
        expected.append(study.fluctuations(ions, study.UNIT) / few)
    assert felt - felt[-1] == pytest.approx(np.array(expected) - expected[-1], abs=8e-4)
    assert felt[0] - felt[-1] < -0.05  # an ion is drawn to the metal


def test_uniform_ions_have_the_free_energy_of_debye_and_hueckel(study, monkeypatch):
    """Volume and surface of a wide cell, by integrals over wave vectors."""
    monkeypatch.setattr(study, "WIDTH", 600 * study.UNIT)
    width, density = 15 * study.UNIT, 4e-3 / study.UNIT**3
    monkeypatch.setattr(study, "IONS", density * study.WIDTH**2 * study.GAP)
    points, _, _ = study.line(1)
    ions = np.full((2, len(points)), density / 2)
    square = 4 * np.pi * study.BJERRUM * density

    def weight(k):
        return np.log1p(square * np.exp(-(k**2) * width**2 / 2) / k**2)

    most = 12 / width
    volume = quad(lambda k: k**2 * weight(k), 0, most)[0] / (4 * np.pi**2)
    surface = -quad(lambda k: k * weight(k), 0, most)[0] / (8 * np.pi)
    area = study.WIDTH**2
    expected = area * (study.GAP * volume + surface)
    assert study.fluctuations(ions, width) == pytest.approx(expected, rel=5e-3)
    assert abs(area * surface) > 0.05 * expected


def test_sheets_of_a_given_number_of_ions_do_not_fluctuate(study, monkeypatch):
    """In a cell so narrow that nothing varies along the plates, all ions of a kind in one place."""
    monkeypatch.setattr(study, "WIDTH", 2 * study.UNIT)
    monkeypatch.setattr(study, "IONS", 8)
    points, _, _ = study.line(1)
    ions = np.zeros((2, len(points)))
    ions[0, 600] = ions[1, 1500] = 4 / study.WIDTH**2 / (points[1] - points[0])
    assert study.fluctuations(ions, 3 * study.UNIT) == pytest.approx(0.0, abs=1e-6)
    ions[0, 600:610] = ions[0, 600] / 10  # as soon as there is room, they do
    assert study.fluctuations(ions, 3 * study.UNIT) > 1e-3


def test_what_changes_the_free_energy_changes_the_charge_by_its_slope(study):
    """The perturbation by which the loop is taken, where its answer is known: ions of a width."""
    points, numbers, waves = study.line(500)
    width = 0.5 * study.UNIT

    def added(voltage):
        _, ions = study.mean_field(voltage, 0.0)
        charge = waves @ (ions[0] - ions[1]) * (points[1] - points[0])
        softer = study.interaction(numbers**2, width) - study.interaction(numbers**2, 0.0)
        return study.WIDTH**2 / study.GAP * float(softer @ charge**2)

    slope = -(added(12.1) - added(11.9)) / 0.2
    apart = study.mean_field(12.0, width)[0] - study.mean_field(12.0, 0.0)[0]
    assert slope == pytest.approx(apart, rel=0.05)
    # ions drawn to their images and to each other charge the electrodes more
    gaussians, loop = study.beyond_mean_field(12.0)
    assert 0 < loop < 0.01 * gaussians


def test_the_record_meets_the_equation_at_every_voltage(study):
    with xr.open_datatree(study.HERE / "primitive_model.nc", engine="h5netcdf") as tree:
        charge, over, slope, fluctuation = (
            tree[name].to_dataset().load()
            for name in ("charge", "handed_over", "slope", "fluctuation")
        )
    assert tuple(charge["voltage"].values) == study.VOLTAGES
    assert charge["md_charge"].values[1:] == pytest.approx(
        charge["pb_charge"].values[1:], rel=0.015
    )
    # what mean field leaves out is worked out anew
    at = 4
    expected = np.array(study.beyond_mean_field(study.VOLTAGES[at]))
    pb = float(charge["pb_charge"][at])
    left_out = [float(charge[name][at]) for name in ("from_width", "from_correlation")]
    assert expected == pytest.approx([pb + left_out[0], left_out[1]], rel=1e-3)
    apart = charge["md_charge"] - charge["pb_charge"]
    apart -= charge["from_width"] + charge["from_correlation"]
    assert (abs(apart) < 2 * charge["md_charge_std"]).all()
    assert (charge["potential_rms"] < 0.01).all()
    assert (over["surface_charge"] / over["md_surface_charge"]).values == pytest.approx(1, abs=0.02)
    name = "cell_capacitance"
    error = np.hypot(slope[f"{name}_std"].values, fluctuation[f"{name}_std"].values)
    assert (abs(fluctuation[name].values - slope[name].values) < 2 * error).all()
