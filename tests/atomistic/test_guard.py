"""The guard's account of energy: in balance for sound dynamics, not for what is broken."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch_sim as ts
from ase.build import bulk
from torch_sim.integrators.nvt import nvt_langevin_step, nvt_vrescale_init, nvt_vrescale_step
from torch_sim.models.interface import ModelInterface
from torch_sim.units import MetalUnits

from atomistic.dynamics import Schedule, equilibrate, sample
from atomistic.potentials.guard import Guarded, Untrustworthy, guarded
from atomistic.potentials.pairs import lennard_jones
from atomistic.potentials.potential import Potential

FEMTOSECOND = 1e-3 * float(MetalUnits.time)
HOT = 300.0  # K


def argon():
    return lennard_jones({"Ar": (3.4, 0.0103)}, cutoff=5.2)


def start(seed=0):
    atoms = bulk("Ar", cubic=True, a=5.3).repeat(2)
    atoms.rattle(0.1, seed=seed)
    return atoms


def moving(model, count=2):
    state = ts.io.atoms_to_state([start(seed) for seed in range(count)], "cpu", torch.float64)
    state.rng = 3
    kT = torch.full((count,), HOT * float(MetalUnits.temperature), dtype=torch.float64)
    return nvt_vrescale_init(state, model, kT=kT), kT


def total_energy(state):
    kinetic = state.momenta.square().sum(1) / (2 * state.masses)
    return state.energy.clone().index_add(0, state.system_idx, kinetic)


class Altered(ModelInterface):
    """Argon with something added to its forces or energies."""

    def __init__(self, alter):
        super().__init__()
        self.model, self.alter = argon().model, alter
        self._device, self._dtype = self.model.device, self.model.dtype
        self._compute_forces = self._compute_stress = True

    def forward(self, state, **kwargs):
        return self.alter(state, dict(self.model(state)))


def swirling(state, found):
    """A shear that no energy belongs to."""
    turn = torch.sin(2 * np.pi * state.positions[:, 1] / 10.6)
    push = torch.stack([0.2 * turn, 0 * turn, 0 * turn], 1)
    return found | {"forces": found["forces"] + push}


def jumping(state, found):
    """An energy that jumps where a neighbour enters, without a force."""
    from atomistic.potentials.pairs import neighbours

    _, _, system, vector = neighbours(state, 3.9)
    return found | {"energy": found["energy"].index_add(0, system, 0.02 + 0 * vector[:, 0])}


def as_potential(model):
    return Potential("altered", model, ("Ar",), 5.2)


def test_the_account_is_the_drift_of_the_total_energy():
    """Two femtoseconds and ten: the account follows the total energy, but for its last step."""
    drifts = []
    for step in (2.0, 10.0):
        model = Guarded(argon().model, drift_cap=1.0)
        state, _ = moving(model)
        before = total_energy(state)
        for _ in range(150):
            state = ts.nve_step(state, model, dt=step * FEMTOSECOND)
        gained = (total_energy(state) - before) / 32
        # what is left: the squares of the forces of the first and last step
        last = state.forces.square().sum(1) / (8 * state.masses) * (step * FEMTOSECOND) ** 2
        bound = 2 * torch.zeros(2).double().index_add(0, state.system_idx, last).max() / 32
        assert float((model.drift - gained).abs().max()) < float(bound) + 1e-12
        drifts.append(float(model.drift.abs().max()))
    assert drifts[0] < 2e-4 < drifts[1] * 5


@pytest.mark.parametrize("thermostat", ["vrescale", "langevin"])
def test_thermostats_do_not_enter_the_account(thermostat):
    model = Guarded(argon().model, drift_cap=3e-4)
    state, kT = moving(model)
    # a thermostat that heats to twice the temperature
    for _ in range(300):
        step = {"dt": 2.0 * FEMTOSECOND, "kT": 2 * kT}
        if thermostat == "vrescale":
            state = nvt_vrescale_step(model, state, tau=50 * FEMTOSECOND, **step)
        else:
            state = nvt_langevin_step(state, model, gamma=0.02 / FEMTOSECOND, **step)
    assert float(model.drift.abs().max()) < 3e-4
    heated = float(state.calc_kT().mean() / kT.mean())
    assert heated > 1.3


@pytest.mark.parametrize("alter", [swirling, jumping])
def test_energy_from_nowhere_stops_the_run(alter, tmp_path):
    schedule = Schedule(timestep=2.0, equilibration=0.0, production=2.0)
    file = tmp_path / "last.extxyz"
    broken = guarded(as_potential(Altered(alter)), drift_cap=5e-3, last_good=file)
    with pytest.raises(Untrustworthy, match=r"come apart by .* eV per atom.*no gradient"):
        sample([[start()]], broken, temperatures=[HOT], schedule=schedule, seed=1)
    assert file.is_file()
    sound = guarded(argon(), drift_cap=5e-3)
    sample([[start()]], sound, temperatures=[HOT], schedule=schedule, seed=1)


def test_a_timestep_that_is_too_long_stops_the_run():
    schedule = Schedule(timestep=40.0, equilibration=0.0, production=8.0, frame_interval=400.0)
    with pytest.raises(Untrustworthy, match="the timestep is too long"):
        sample(
            [[start()]],
            guarded(argon(), drift_cap=5e-3),
            temperatures=[HOT],
            schedule=schedule,
            seed=1,
        )


def test_what_is_put_somewhere_or_pressed_is_not_counted():
    model = Guarded(argon().model, drift_cap=1e-6)
    elsewhere = start()
    elsewhere.positions[3] += [0.0, 0.0, 0.6]
    squeezed = elsewhere.copy()
    squeezed.set_cell(0.98 * squeezed.cell.array, scale_atoms=True)
    for atoms in (start(), elsewhere, squeezed, start(1) * (2, 1, 1), start(2)):
        model(ts.io.atoms_to_state([atoms], "cpu", torch.float64))
        assert float(model.drift.abs().max()) == 0.0
    schedule = Schedule(timestep=2.0, equilibration=0.0, production=0.2)
    pressed = guarded(argon(), drift_cap=1e-3)
    equilibrate([start()], pressed, temperatures=[60.0], schedule=schedule)
    assert guarded(argon()).model.drift is None
