from dataclasses import replace

import numpy as np
import pytest
import torch
import torch_sim as ts
from ase import units
from torch_sim.integrators.nve import nve_init, nve_step
from torch_sim.units import MetalUnits

from atomistic.dynamics import Schedule, UnstableDynamics, equilibrate, sample
from atomistic.potentials.load import load
from atomistic.systems import argyrodite

SHORT = Schedule(equilibration=0.25, production=0.5, frame_interval=10.0)


@pytest.fixture(scope="module")
def student():
    return load("argyrodite-pbe", device="cpu")


@pytest.fixture(scope="module")
def structures():
    return [argyrodite(lattice_parameter=10.15, seed=seed) for seed in range(2)]


@pytest.fixture(scope="module")
def trajectory(student, structures):
    return sample(
        [structures, structures], student, temperatures=[500.0, 900.0], schedule=SHORT, seed=1
    )


def test_sizes_units_and_names(trajectory):
    assert dict(trajectory.sizes) == {
        "condition": 2, "replica": 2, "frame": SHORT.frames, "atom": 52, "xyz": 3, "partner": 3,
    }  # fmt: skip
    assert trajectory.position.attrs["units"] == "m"
    assert float(trajectory.time.diff("frame").max()) == pytest.approx(10e-15, rel=1e-9, abs=0)
    assert list(trajectory.potential_name.values) == ["argyrodite-pbe"] * 2


def test_centre_of_mass_is_at_rest_and_positions_are_unwrapped(trajectory, structures):
    masses = structures[0].get_masses()
    centre = (trajectory.position * masses[:, None]).sum("atom") / masses.sum() * 1e10
    assert float(abs(centre - centre.isel(frame=0)).max()) < 1e-4
    jump = abs(trajectory.position.diff("frame")).max() * 1e10
    assert 0.05 < float(jump) < 1.5


def test_drift_of_the_whole_is_taken_out(student, structures):
    drifting = structures[0].copy()
    drifting.set_momenta(drifting.get_masses()[:, None] * np.array([0.02, 0.0, 0.0]))
    schedule = Schedule(equilibration=0.0, production=0.1, frame_interval=5.0)
    run = sample([[drifting]], student, temperatures=[300.0], schedule=schedule)
    masses = drifting.get_masses()
    centre = (run.position * masses[:, None]).sum("atom") / masses.sum() * 1e10
    assert float(abs(centre - centre.isel(frame=0)).max()) < 1e-4


def test_hotter_means_larger_displacement(trajectory):
    moved = trajectory.position.isel(frame=-1) - trajectory.position.isel(frame=0)
    mean = (moved**2).sum("xyz").mean(("atom", "replica"))
    assert float(mean[1]) > float(mean[0])


def test_kinetic_energy_obeys_equipartition(student, structures):
    """Over the equilibrated cells' momenta, <2K / (3N - 3)> = kT within sampling."""
    many = structures * 6
    temperature = 700.0
    rows, _ = equilibrate(
        many, student, temperatures=[temperature], seed=3,
        schedule=Schedule(equilibration=0.4, production=0.1),
    )  # fmt: skip
    freedom = 3 * 52 - 3
    measured = [2 * a.get_kinetic_energy() / freedom / units.kB for a in rows[0]]
    error = temperature * np.sqrt(2 / freedom / len(many))
    assert np.mean(measured) == pytest.approx(temperature, abs=4 * error)


def test_constant_pressure_finds_the_volume_where_pressure_vanishes(student, structures):
    """The mean virial pressure in NVT at the cell found, plus the ideal part, is zero."""
    temperature = 500.0
    schedule = Schedule(equilibration=0.8, production=1.2)
    rows, cells = equilibrate(
        structures, student, temperatures=[temperature], schedule=schedule, seed=5
    )
    lengths = {round(float(atoms.cell.lengths()[0]), 6) for row in rows for atoms in row}
    assert len(lengths) == 1
    run = sample(rows, student, temperatures=[temperature], schedule=schedule, seed=6)
    pressures = []
    for replica, atoms in enumerate(rows[0]):
        for frame in range(0, run.sizes["frame"], 5):
            copy = atoms.copy()
            copy.positions = run.position.values[0, replica, frame] * 1e10
            state = ts.io.atoms_to_state([copy], "cpu", torch.float64)
            virial = float(student.model(state)["stress"][0].diagonal().mean())
            ideal = (len(atoms) - 1) * units.kB * temperature / atoms.get_volume()
            pressures.append((ideal - virial) / units.GPa)
    bulk_modulus = 20.0  # GPa, order of magnitude; 1 % in length is 3 % in volume
    assert abs(np.mean(pressures)) < 0.03 * bulk_modulus
    assert float(cells.volume_per_atom[0]) == pytest.approx((10.15e-10) ** 3 / 52, rel=0.08, abs=0)


def test_same_seed_same_trajectory(student, structures):
    short = Schedule(equilibration=0.0, production=0.1)
    run = [
        sample([structures], student, temperatures=[600.0], schedule=short, seed=seed)
        for seed in (4, 4, 5)
    ]
    assert run[0].identical(run[1])
    assert not run[0].identical(run[2])


def test_coming_too_close_stops_with_the_pair_and_distance(student, structures):
    strict = replace(student, closest_approach={"Li-S": 2.4})
    with pytest.raises(UnstableDynamics, match=r"(Li and S|S and Li) came as close as"):
        sample([structures], strict, temperatures=[600.0], schedule=SHORT)


def test_runaway_temperature_stops(student, structures):
    squeezed = [atoms.copy() for atoms in structures]
    for atoms in squeezed:
        atoms.set_cell(atoms.cell * 0.8, scale_atoms=True)
    bare = replace(student, closest_approach={})
    with pytest.raises(UnstableDynamics, match="times the target"):
        sample([squeezed], bare, temperatures=[50.0], schedule=SHORT)


def test_rows_that_do_not_match_the_temperatures_are_refused(student, structures):
    with pytest.raises(ValueError, match="2 temperatures"):
        sample([structures], student, temperatures=[500.0, 600.0], schedule=SHORT)


def test_schedule_lists_every_fault():
    with pytest.raises(ValueError, match=r"timestep is -1.0.*production is 0.0"):
        Schedule(timestep=-1.0, production=0.0)


def test_energy_error_falls_with_the_square_of_the_timestep(student, structures):
    """Velocity Verlet on a smooth energy surface: halving the step quarters the energy's ripple."""
    rows, _ = equilibrate(
        structures[:1], student, temperatures=[600.0], seed=7,
        schedule=Schedule(equilibration=0.4, production=0.1),
    )  # fmt: skip
    ripple = []
    for femtoseconds in (2.5, 1.25):
        state = ts.io.atoms_to_state(rows[0], "cpu", student.model.dtype)
        state.momenta = torch.as_tensor(rows[0][0].get_momenta())
        kT = torch.tensor(600.0 * units.kB, dtype=state.dtype)
        state = nve_init(state, student.model, kT=kT)
        dt = torch.tensor(femtoseconds * 1e-3 * float(MetalUnits.time), dtype=state.dtype)
        energies = []
        for _ in range(int(500 / femtoseconds)):
            state = nve_step(state, student.model, dt=dt)
            kinetic = (state.momenta**2 / (2 * state.masses[:, None])).sum()
            energies.append(float(state.energy[0] + kinetic))
        ripple.append(np.std(energies))
    assert ripple[0] / ripple[1] == pytest.approx(4.0, rel=0.35)
    assert ripple[0] / 52 < 1e-3  # eV per atom


def test_the_teacher_itself_drives_the_same_call(structures):
    teacher = load("sevennet-0", device="cpu")
    assert {"Li", "P", "S", "Cl"} <= set(teacher.species)
    assert teacher.licence == "MIT"
    schedule = Schedule(equilibration=0.0, production=0.02, frame_interval=5.0)
    run = sample([structures[:1]], teacher, temperatures=[300.0], schedule=schedule, seed=2)
    assert run.sizes["frame"] == 4
    moved = abs(run.position.isel(frame=-1) - run.position.isel(frame=0)) * 1e10
    assert 0.01 < float(moved.max()) < 0.5
    assert list(run.potential_name.values) == ["sevennet-0"]
