"""Potentials in a uniform field: fixed charges, charges that follow, polarisable molecules."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch_sim as ts
from ase import Atoms
from ase.build import bulk, molecule
from torch_sim.units import MetalUnits

from atomistic.electrostatics.ewald import COULOMB
from atomistic.electrostatics.induced import InducedDipoles
from atomistic.potentials.compose import Sum
from atomistic.potentials.field import ModelCharges, UniformField, field_ramp, in_field
from atomistic.potentials.ionic import sodium_chloride

FIELD = (0.02, -0.05, 0.1)
CHARGES = {"Na": 1.0, "Cl": -1.0}
VOLUME = {"C": 1.3, "O": 0.85, "H": 0.4}
PARTIAL = {"C": -0.1, "O": -0.6, "H": 0.175}
MOST = {"C": 0.3, "O": 0.2, "H": 0.1}


def state_of(*structures):
    return ts.io.atoms_to_state(list(structures), "cpu", torch.float64)


def evaluate(model, *structures):
    return {name: value.numpy() for name, value in model(state_of(*structures)).items()}


def slopes(energy, atoms, step=1e-4):
    """Central differences of an energy by every position (eV Å-1)."""
    found = np.zeros((len(atoms), 3))
    for place in np.ndindex(found.shape):
        pair = []
        for sign in (1, -1):
            moved = atoms.copy()
            moved.positions[place] += sign * step
            pair.append(energy(moved))
        found[place] = (pair[0] - pair[1]) / (2 * step)
    return found


@pytest.fixture
def melt():
    atoms = bulk("NaCl", "rocksalt", a=6.2, cubic=True) * (2, 2, 2)
    atoms.rattle(0.2, seed=3)
    return atoms


@pytest.fixture
def methanol():
    atoms = molecule("CH3OH", vacuum=4.0)
    atoms.rattle(0.05, seed=1)
    return atoms


def test_fixed_charges_feel_their_charge_times_the_field(melt):
    bare = sodium_chloride(cutoff=5.5)
    placed = in_field(bare, FIELD, CHARGES)
    both, alone = evaluate(placed.model, melt), evaluate(bare.model, melt)
    charge = np.array([CHARGES[symbol] for symbol in melt.symbols])
    np.testing.assert_allclose(
        both["forces"] - alone["forces"], charge[:, None] * FIELD, atol=1e-12
    )
    moment = charge @ melt.positions
    assert both["energy"][0] - alone["energy"][0] == pytest.approx(-moment @ FIELD, abs=1e-10)
    np.testing.assert_allclose(both["dipole_moment"][0], moment)
    assert "stress" not in both and "stress" in alone
    assert set(placed.species) == set(bare.species) and placed.cutoff == bare.cutoff


def test_each_system_of_a_batch_has_its_own_field(melt):
    fields = torch.tensor([[0.0, 0.0, 0.1], [0.3, 0.0, 0.0]])
    found = evaluate(UniformField(fields, CHARGES), melt, melt * (2, 1, 1))
    for index, atoms in enumerate((melt, melt * (2, 1, 1))):
        alone = evaluate(UniformField(fields[index], CHARGES), atoms)
        assert found["energy"][index] == pytest.approx(alone["energy"][0])
    with pytest.raises(ValueError, match="2 fields were given for 1 systems"):
        UniformField(fields, CHARGES)(state_of(melt))


def test_in_a_periodic_cell_energy_is_the_electric_enthalpy_that_dynamics_conserve(melt):
    """Polarisation of unwrapped positions: a jump by an image costs -q F.a, and forces stay."""
    term = UniformField(FIELD, CHARGES)
    before = evaluate(term, melt)
    hopped = melt.copy()
    hopped.positions[0] += melt.cell.array[2]
    after = evaluate(term, hopped)
    quantum = -CHARGES[melt.symbols[0]] * melt.cell.array[2] @ FIELD
    assert after["energy"][0] - before["energy"][0] == pytest.approx(quantum, abs=1e-10)
    np.testing.assert_array_equal(before["forces"], after["forces"])
    placed = in_field(sodium_chloride(cutoff=5.5), (0.0, 0.0, 0.05), CHARGES)
    kT = torch.tensor(1100 * float(MetalUnits.temperature), dtype=torch.float64)
    state = state_of(melt)
    state.rng = 1
    moving = ts.nve_init(state, placed.model, kT=kT)
    total, own, current = [], [], []
    charge = torch.tensor([CHARGES[symbol] for symbol in melt.symbols], dtype=torch.float64)
    for _ in range(120):
        moving = ts.nve_step(moving, placed.model, dt=0.5e-3 * float(MetalUnits.time))
        kinetic = float((moving.momenta.square().sum(1) / (2 * moving.masses)).sum())
        total.append(float(moving.energy) + kinetic)
        own.append(total[-1] + 0.05 * float(charge @ moving.positions[:, 2]))
        current.append(float(charge @ moving.positions[:, 2]))
    # the field does work on the melt; enthalpy knows of it, energy without the field does not
    assert np.ptp(total) < 0.02 * np.ptp(own)
    assert current[-1] > current[0] + 1.0


def test_charges_that_follow_positions_push_as_well_and_are_refused_where_images_matter(methanol):
    base = torch.tensor([PARTIAL[symbol] for symbol in methanol.symbols], dtype=torch.float64)

    def charges(state):
        apart = (state.positions - state.positions.mean(0)).norm(dim=1)
        bent = 0.05 * apart**2
        return base + bent - bent.mean()

    methanol.pbc = False
    term = UniformField((0.3, 0.2, -0.1), ModelCharges(charges))
    found = evaluate(term, methanol)
    expected = -slopes(lambda atoms: evaluate(term, atoms)["energy"][0], methanol)
    np.testing.assert_allclose(found["forces"], expected, atol=1e-8)
    assert np.abs(found["forces"] - base.numpy()[:, None] * [0.3, 0.2, -0.1]).max() > 0.01
    methanol.pbc = True
    with pytest.raises(ValueError, match="repeats along the field"):
        term(state_of(methanol))
    methanol.pbc = (True, True, False)
    across = UniformField((0.0, 0.0, 0.1), ModelCharges(charges))
    assert np.isfinite(evaluate(across, methanol)["energy"]).all()


@pytest.mark.parametrize("saturation", [None, MOST])
@pytest.mark.parametrize("field", [(0.0, 0.0, 0.0), (0.5, -1.0, 2.0)])
def test_induced_dipoles_push_by_the_slope_of_their_energy(methanol, saturation, field):
    methanol.pbc = False

    def model(at):
        return InducedDipoles(PARTIAL, VOLUME, saturation=saturation, field=at)

    found = evaluate(model(field), methanol)
    expected = -slopes(lambda atoms: evaluate(model(field), atoms)["energy"][0], methanol)
    np.testing.assert_allclose(found["forces"], expected, atol=1e-7)
    # and the dipole moment is the slope by the field
    for axis in range(3):
        pair = []
        for sign in (1, -1):
            at = np.array(field)
            at[axis] += sign * 1e-4
            pair.append(evaluate(model(at), methanol)["energy"][0])
        slope = -(pair[0] - pair[1]) / 2e-4
        assert found["dipole_moment"][0, axis] == pytest.approx(slope, abs=1e-8)


def test_two_polarisable_atoms_are_silbersteins():
    """Along and across the axis: 2a/(1 - 2a/r3) and 2a/(1 + a/r3) of bare dipoles."""
    volume, distance = 1.5, 3.5
    pair = Atoms("C2", [[0, 0, 0], [distance, 0, 0]])
    model = InducedDipoles({"C": 0.0}, {"C": volume}, damping=np.inf)
    moment, tensor = model.respond(state_of(pair))
    expected = 2 * volume / (1 - np.array([2, -1, -1]) * volume / distance**3)
    np.testing.assert_allclose(np.diag(tensor[0]) * COULOMB, expected, rtol=1e-12)
    assert not moment.any()
    damped = InducedDipoles({"C": 0.0}, {"C": volume}).respond(state_of(pair))[1]
    assert damped[0, 0, 0] < tensor[0, 0, 0]


def test_an_ion_draws_the_opposite_charge_towards_it():
    """A cation to the right leaves a dipole to the left of alpha q / r2, and gains half of it."""
    volume, distance = 1.5, 4.0
    atoms = Atoms("CNa", [[0, 0, 0], [distance, 0, 0]])
    model = InducedDipoles({"C": 0.0, "Na": 1.0}, {"C": volume, "Na": 1e-9}, damping=np.inf)
    found = evaluate(model, atoms)
    moment = found["dipole_moment"][0, 0] - distance
    assert moment == pytest.approx(-volume / distance**2, rel=1e-6)
    assert found["energy"][0] == pytest.approx(-COULOMB * volume / 2 / distance**4, rel=1e-6)


def test_response_is_that_of_the_energies_in_fields(methanol):
    """Alpha is minus the second derivative of the energy by the field."""
    methanol.pbc = False
    moment, tensor = InducedDipoles(PARTIAL, VOLUME).respond(state_of(methanol))
    step = 1e-2
    for axis in range(3):
        dipoles = []
        for sign in (1, -1):
            at = np.zeros(3)
            at[axis] = sign * step
            model = InducedDipoles(PARTIAL, VOLUME, field=at)
            dipoles.append(evaluate(model, methanol)["dipole_moment"][0])
        np.testing.assert_allclose(tensor[0, axis], (dipoles[0] - dipoles[1]) / (2 * step))
        assert moment[0, axis] == pytest.approx((dipoles[0] + dipoles[1])[axis] / 2, abs=1e-9)
    term = UniformField(FIELD, InducedDipoles(PARTIAL, VOLUME).respond)
    both = Sum([InducedDipoles(PARTIAL, VOLUME), term])
    exact = evaluate(InducedDipoles(PARTIAL, VOLUME, field=FIELD), methanol)
    found = evaluate(both, methanol)
    for name in ("energy", "forces", "dipole_moment"):
        np.testing.assert_allclose(found[name], exact[name], atol=1e-10)


def test_bare_dipoles_run_away_and_damped_or_saturating_ones_do_not():
    close = Atoms("C2", [[0, 0, 0], [1.2, 0, 0]])
    bare = {"damping": np.inf, "field": (0.1, 0.0, 0.0)}
    with pytest.raises(ValueError, match="polarisation catastrophe"):
        InducedDipoles({"C": 0.0}, {"C": 1.5}, **bare)(state_of(close))
    damped = evaluate(InducedDipoles({"C": 0.0}, {"C": 1.5}, field=(0.1, 0, 0)), close)
    assert 0 < damped["dipole_moment"][0, 0] < 0.1
    held = InducedDipoles({"C": 0.0}, {"C": 1.5}, saturation={"C": 0.4}, **bare)
    for distance in (1.2, 0.6, 0.3):
        close.positions[1, 0] = distance
        found = evaluate(held, close)
        assert np.isfinite(found["energy"]).all() and np.abs(found["dipole_moment"]).max() < 0.8


def test_a_ramp_of_fields_tells_who_saturates(methanol):
    methanol.pbc = False
    sound = field_ramp(
        lambda field: InducedDipoles(PARTIAL, VOLUME, saturation=MOST, field=field),
        methanol,
        strengths=(0.0, 0.01, 1.0, 10.0, 30.0),
    )
    assert sound.holds and "stays within 2 times" in sound.outcome
    assert sound.response[-1] < 0.2 * sound.response[0]
    linear = field_ramp(lambda field: InducedDipoles(PARTIAL, VOLUME, field=field), methanol)
    assert linear.holds
    np.testing.assert_allclose(linear.response, linear.response[0])

    class Runaway(UniformField):
        def forward(self, state, **kwargs):
            found = super().forward(state)
            return found | {"dipole_moment": found["dipole_moment"] * (1 + found["forces"].norm())}

    worse = field_ramp(
        lambda field: Runaway(field, InducedDipoles(PARTIAL, VOLUME).respond), methanol
    )
    assert not worse.holds and "without bound" in worse.outcome


def test_wrong_numbers_are_refused(melt):
    with pytest.raises(ValueError, match=r"a field of shape \(2,\)"):
        UniformField((1.0, 2.0), CHARGES)
    with pytest.raises(ValueError, match=r"carries \+32 e"):
        UniformField(FIELD, {"Na": 2.0, "Cl": -1.0})(state_of(melt))
    with pytest.raises(ValueError, match="no charge is given for Na"):
        UniformField(FIELD, {"Cl": -1.0})(state_of(melt))
    with pytest.raises(ValueError, match=r"give both for each; .*must be positive"):
        InducedDipoles({"C": 0.0}, {"H": -1.0})
    with pytest.raises(ValueError, match="periodic system"):
        InducedDipoles(CHARGES, {"Na": 0.1, "Cl": 3.0})(state_of(melt))
    with pytest.raises(ValueError, match="nothing is known of Na"):
        InducedDipoles({"Cl": 0.0}, {"Cl": 3.0})(state_of(Atoms("Na")))


def test_the_example_learns_dipoles_and_charges(example):
    torch.set_num_threads(1)
    study = example("field_response")
    found = study.molecules(copies=20, steps=250)
    assert found["dipole_error_relative"] < 0.3
    assert found["force_in_field_error_relative"] < 0.4
    assert found["response_at_30_V_per_angstrom_linear"] == pytest.approx(1.0)
    assert found["response_at_30_V_per_angstrom_saturating"] < 0.7
    salt = study.melt(frames=12, steps=50)
    assert salt["sodium_charge_e"] == pytest.approx(1.0, abs=0.1)
    assert salt["force_error_with_charges"] < 0.6 * salt["force_error_short_range"]
