"""The committee of molten NaCl: charges out and in again, and what is recorded of it."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import torch_sim as ts
import xarray as xr
from ase.calculators.singlepoint import SinglePointCalculator
from scipy.constants import epsilon_0

from atomistic.learning.distil import label
from atomistic.potentials.ionic import sodium_chloride


@pytest.fixture(scope="module")
def train(example):
    return example("molten_salt_student", "train")


@pytest.fixture(scope="module")
def frames(train):
    return train.frames


def test_what_is_left_of_rigid_ions_is_their_pairs(train, frames):
    """Fumi and Tosi's ions are pairs and charges in a vacuum: the rest is known exactly."""
    atoms = frames.grid(12.63)
    atoms.rattle(0.3, seed=1)
    whole, pairs = (sodium_chloride(cutoff=5.6, charged=one) for one in (True, False))
    (left,) = train.rest(label([atoms], whole), permittivity=1.0)
    (expected,) = label([atoms], pairs)
    assert left.get_potential_energy() == pytest.approx(expected.get_potential_energy(), abs=1e-3)
    np.testing.assert_allclose(left.get_forces(), expected.get_forces(), atol=1e-4)
    np.testing.assert_allclose(left.get_stress(), expected.get_stress(), atol=1e-6)


def test_student_and_charges_are_what_labels_were(train, frames):
    """Nothing is counted twice: what was taken off the labels comes back, field or none."""
    atoms = frames.grid(12.63)
    atoms.rattle(0.3, seed=2)
    (labelled,) = label([atoms], sodium_chloride(cutoff=5.6))
    (left,) = train.rest([labelled])
    (charges,) = label([atoms], train.charges())
    np.testing.assert_allclose(
        left.get_forces() + charges.get_forces(), labelled.get_forces(), atol=1e-12
    )
    assert left.get_potential_energy() + charges.get_potential_energy() == pytest.approx(
        labelled.get_potential_energy(), abs=1e-9
    )


@pytest.mark.parametrize("permittivity", [1.0, 2.0])
def test_field_of_electrodes_is_what_their_charges_make(train, frames, permittivity):
    """Far from the plates' atoms, ions feel each other and a uniform field: the one noted."""
    cell = frames.plates(3)
    pairs = sodium_chloride(cutoff=6.0, charged=False)
    voltages = (0.0, 1.5)
    model = frames.between_electrodes(pairs, cell, voltages, permittivity=permittivity)
    electrodes = model.model.models[0]
    batch = ts.io.atoms_to_state([cell] * 2, torch.device("cpu"), torch.float64)
    ions_of = cell.numbers != 6
    everything = electrodes(batch)["forces"].numpy().reshape(2, -1, 3)[:, ions_of]
    for system in (0, 1):
        (ions,) = frames.ions_alone([cell], model, system)
        (alone,) = label([ions], train.charges(permittivity))
        charge = np.array([frames.CHARGES[symbol] for symbol in ions.symbols])
        expected = alone.get_forces()
        expected[:, 2] += charge * ions.info["field"] / permittivity
        z = ions.positions[:, 2]
        far = (z > 9.0) & (z < frames.GAP - 9.0)
        assert far.sum() > 20
        assert abs(ions.info["field"]) > 0.01
        # what is left is of plates that are not evenly charged, and falls off with distance
        left = (charge * (everything[system] - expected)[:, 2])[far]
        assert abs(left.mean()) < 0.01 * abs(ions.info["field"]) / permittivity


def test_teacher_misses_the_field_in_the_middle_and_not_at_the_plates(train, frames):
    z = np.linspace(0.0, frames.GAP, 961)
    share, integral = train.unseen(z)
    assert share[z < train.SEEN].max() == 0.0
    assert share[len(z) // 2] == pytest.approx(1.0)
    np.testing.assert_allclose(share, share[::-1], atol=1e-12)
    np.testing.assert_allclose(np.gradient(integral, z)[1:-1], share[1:-1], atol=1e-3)


def test_field_taken_off_follows_the_dipole(train, frames):
    """Its energy is half of charge times field, since the field is the dipole's own answer."""
    start = frames.plates(1)
    ions = start[start.numbers != 6]
    ions.set_constraint()
    charge = np.array([frames.CHARGES[symbol] for symbol in ions.symbols])
    atom = int(np.argmin(abs(ions.positions[:, 2] - 8.0)))

    def taken_off(field, shift=0.0):
        moved = ions.copy()
        moved.positions[atom, 2] += shift
        moved.info["field"] = field
        moved.calc = SinglePointCalculator(
            moved, energy=0.0, forces=np.zeros((len(ions), 3)), stress=np.zeros(6)
        )
        (left,) = train.rest([moved])
        return left.get_potential_energy(), left.get_forces()

    energies = [taken_off(0.2, h)[0] - taken_off(0.0, h)[0] for h in (0.05, -0.05)]
    push = (taken_off(0.2)[1] - taken_off(0.0)[1])[atom]
    share = train.unseen(ions.positions[atom, 2])[0]
    assert 0.3 < share < 1.0
    assert push[2] == pytest.approx(-0.2 / train.PERMITTIVITY * charge[atom] * share)
    assert push[2] == pytest.approx(-2 * (energies[0] - energies[1]) / 0.1, rel=0.02)


def test_learnt_melt_between_electrodes_has_forces_of_its_energy(example):
    study = example("molten_salt_capacitor")
    cell = study.cell(5)
    model = study.learnt((0.0, 1.0), 1).model
    state = ts.io.atoms_to_state([cell] * 2, torch.device("cpu"), torch.float64)
    forces = model(state)["forces"]
    step = 1e-4
    for atom, axis in ((140, 2), (300, 0)):
        found = []
        for sign in (1, -1):
            moved = state.clone()
            moved.positions[[atom, atom + len(cell)], axis] += sign * step
            found.append(model(moved)["energy"])
        numeric = -(found[0] - found[1]) / (2 * step)
        given = forces[[atom, atom + len(cell)], axis]
        torch.testing.assert_close(given, numeric, rtol=1e-5, atol=1e-5)
    assert float(forces[: 2 * study.SITES**2].abs().max()) == 0.0


def test_recorded_capacitances_agree_and_say_where_their_errors_come_from(example):
    study = example("molten_salt_capacitor")
    found = study.kept(study.HERE / "learnt.nc", "/committee")
    assert sum(name.startswith("/profile") for name in found) == len(study.VOLTAGES)
    slope, fluctuation = (found[f"/capacitance/{name}"] for name in ("slope", "fluctuation"))
    name = "cell_capacitance"
    apart = np.abs(slope[name] - fluctuation[name]).values
    error = np.hypot(slope[f"{name}_std"], fluctuation[f"{name}_std"]).values
    assert (apart < 2 * error).all()
    assert (slope[f"{name}_std"] < 0.15 * slope[name]).all()
    # most of a cell's error is that of where the medium ends, and more voltage brings more charge
    assert (slope[f"{name}_gap_std"] > 0.8 * slope[f"{name}_std"]).all()
    assert (np.diff(slope["surface_charge"]) > 0).all()
    # with the medium up to the plates each cell would hold more, by two capacitors in series
    filled = study.kept(study.HERE / "learnt.nc", "/medium_throughout")["/capacitance/slope"]
    per_area = 2 * slope.attrs["gap_m"] * (1 - 1 / slope.attrs["medium_permittivity"]) / epsilon_0
    assert (1 / slope[name] - 1 / filled[name].values).values == pytest.approx(per_area)
    with xr.open_datatree(study.HERE / "learnt.nc", engine="h5netcdf") as tree:
        said = json.loads(tree.attrs["provenance"])
    assert len({one["sha256"] for one in said["potentials"]}) == len(study.MEMBERS)
    for member, one in zip(study.MEMBERS, said["potentials"], strict=True):
        assert study.learnt((0.0,), member).sha256 == one["sha256"]


def test_recorded_numbers_hold(example):
    compare = example("molten_salt_student", "compare")
    recorded = json.loads(compare.RECORD.read_text())
    again = json.loads(json.dumps(compare.diffusion_and_structure()))
    assert again == recorded["diffusion_and_structure"]
    ratios = again["students_over_teacher"]
    for ratio, error in ratios["self_diffusivity"].values():
        assert abs(ratio - 1.0) < 2 * error
    # runs long enough to tell have the students' ions a tenth ahead, and say so to a twentieth
    for ratio, error in ratios["mean_squared_displacement"].values():
        assert abs(ratio - 1.0) < 0.15 and error <= 0.05
    assert max(again["radial_distribution_mean_difference"].values()) < 0.05
    for members in recorded["forces"].values():
        for kinds in members.values():
            assert all(one["relative_force"] <= 0.20 for one in kinds.values())
    cost = recorded["cost"]
    assert cost["sample_over_torch_sim"] < 1.03
    assert cost["teacher_over_student_with_charges"] > 20
    for member in range(1, compare.train.MEMBERS + 1):
        card = json.loads((compare.HERE / f"member_{member}" / "card.json").read_text())
        assert card["permittivity"] == compare.train.PERMITTIVITY
        assert compare.student(member).closest("Cl", "Na") > 1.5
