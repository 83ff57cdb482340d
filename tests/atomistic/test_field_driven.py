"""Drift in a field, against ions whose mobility is known exactly."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import xarray as xr
from ase import Atoms
from scipy import constants
from torch_sim.models.interface import ModelInterface

from atomistic.dynamics import Schedule, UnstableDynamics
from atomistic.field_driven import _response, beside_fluctuations, field_driven
from atomistic.potentials.load import Potential
from tests.atomistic.synthetic import assert_covers, inside

CHARGES = {"Na": 1, "Cl": -1}
FRICTION = {11: 0.4, 17: 0.25}  # per internal time (10.18 fs)
UNIT = 10.180505710774743e-15  # s
KT = 1100.0 * constants.k / constants.e
SCHEDULE = Schedule(timestep=2.0, equilibration=0.2, production=4.0, frame_interval=10.0)


class Bath(ModelInterface):
    """Ions that meet nothing but friction and noise: u = q / (m gamma)."""

    def __init__(self, harder=0.0):
        super().__init__()
        self._device, self._dtype = torch.device("cpu"), torch.float64
        self._compute_forces, self._compute_stress = True, False
        self.rng = torch.Generator().manual_seed(13)
        self.harder = harder

    def forward(self, state, **kwargs):
        momenta = getattr(state, "momenta", None)
        force = torch.zeros_like(state.positions)
        if momenta is not None:
            friction = torch.where(state.atomic_numbers == 11, FRICTION[11], FRICTION[17])[:, None]
            mass = state.masses[:, None]
            speed = momenta / mass
            step = 2e-15 / UNIT
            noise = torch.randn(force.shape, generator=self.rng, dtype=force.dtype)
            drag = friction * mass * momenta / mass
            drag = drag * (1 + self.harder * speed.square().sum(1, keepdim=True))
            force = noise * torch.sqrt(2 * friction * mass * KT / step) - drag
        return {"energy": torch.zeros(state.n_systems, dtype=force.dtype), "forces": force}


def ions(replicas=3, pairs=30):
    rng = np.random.default_rng(0)
    return [
        Atoms(
            ["Na"] * pairs + ["Cl"] * pairs,
            20 * rng.random((2 * pairs, 3)),
            cell=[20] * 3,
            pbc=True,
        )
        for _ in range(replicas)
    ]


def bath(**options):
    return Potential(name="bath", model=Bath(**options), species=None, cutoff=1.0)


def exact():
    """Mobility (m2 V-1 s-1) of each ion and the conductivity (S m-1)."""
    mass = {"Na": 22.98976928, "Cl": 35.45}
    mobility = {
        name: CHARGES[name] * constants.e / (mass[name] * constants.atomic_mass * rate / UNIT)
        for name, rate in (("Na", FRICTION[11]), ("Cl", FRICTION[17]))
    }
    volume = (20e-10) ** 3
    return mobility, constants.e * 30 / volume * (mobility["Na"] - mobility["Cl"])


def test_drift_gives_the_mobility_and_the_conductivity():
    found = field_driven(
        ions(), bath(), charges=CHARGES, fields=[2e9, 4e9], temperature=1100.0,
        schedule=SCHEDULE, direction=(1.0, 1.0, 0.0), seed=3,
    )  # fmt: skip
    mobility, conductivity = exact()
    error = found["conductivity_std"].item()
    assert abs(found["conductivity"].item() - conductivity) < 3.5 * error < 0.3 * conductivity
    # drift is told about the centre of mass, which itself drifts in a bath
    apart = found["mobility"].sel(species="Na") - found["mobility"].sel(species="Cl")
    spread = found["mobility_std"].values.sum()  # one drifts one way as the other drifts back
    assert abs(apart.item() - (mobility["Na"] - mobility["Cl"])) < 3.5 * spread
    assert found["linear"].item()
    assert found.attrs["verdict"].startswith("linear up to 4e+09")
    np.testing.assert_allclose(found["temperature_across"], 1100.0, rtol=0.05)
    density = found["current_density"].values
    assert density[1] > 1.5 * density[0] > 0


def test_a_response_that_bends_is_called_nonlinear():
    found = field_driven(
        ions(pairs=60), bath(harder=60.0), charges=CHARGES, fields=[1.5e9, 9e9],
        temperature=1100.0, schedule=SCHEDULE, seed=2,
    )  # fmt: skip
    assert not found["linear"].item()
    assert "nonlinear" in found.attrs["verdict"]
    secant = found["current_density"].values / found["field"].values
    assert found["conductivity"].item() > secant[0] > secant[1]


@pytest.mark.parametrize("length", [0.0, 3e-10])
def test_the_slope_at_zero_field_is_covered_where_no_test_sees_the_bend(length):
    """Ions that hop over `length`: sinh(x)/x is 1.06 at the strongest field, the noise 3 %."""
    fields = np.array([2e8, 3e8, 4e8])
    pull = constants.e * fields * length / (2 * constants.k * 1100.0)
    excess = np.sinh(pull) / pull if length else np.ones(3)
    longest = constants.e * 4e8 * 4e-10 / (2 * constants.k * 1100.0)
    rng = np.random.default_rng(4)
    hits, off, tilt = [], [], []
    for seed in range(200):
        drift = 1e-7 * fields * excess  # of a mobility of 1e-7 m2/V/s
        noise = rng.standard_normal((2, 3, 1, 5, 1)) * 1e-7 * 4e8 * 0.04 * np.sqrt(10)
        velocity = drift[None, :, None, None, None] + noise
        found = _response(
            velocity, np.array([1.0]), fields, ["Na"], np.full((3, 2), 1100.0), 1100.0,
            longest, 400, seed,
        )  # fmt: skip
        hits.append(inside(found["conductivity_draw"].values, 1e-7))
        off.append(found["conductivity"].item() / 1e-7 - 1)
        straight = fields @ found["current_density"].values / (fields @ fields)
        tilt.append(straight / 1e-7 - 1)
    within_68, within_95 = np.transpose(hits)
    assert_covers(within_95, 0.95, above=0.0)
    # ions that just drift pay for the doubt whether they do
    assert_covers(within_68, 0.68, above=0.001 if length else 0.0)
    assert abs(np.mean(off)) < 0.035
    if length:
        assert np.mean(tilt) > 0.04 > np.mean(off)


def test_the_thermostat_leaves_the_drift_alone():
    """Free ions across which heat is exchanged every step: along the field they just accelerate."""

    class Free(Bath):
        def forward(self, state, **kwargs):
            found = super().forward(state)
            return {**found, "forces": torch.zeros_like(state.positions)}

    free = Potential(name="free", model=Free(), species=None, cutoff=1.0)
    start = ions(replicas=1)
    rng = np.random.default_rng(1)
    momenta = rng.standard_normal((60, 3)) * np.sqrt(KT * start[0].get_masses())[:, None]
    momenta[:, :2] *= 3  # hot across: what cools that must not cool the drift
    start[0].set_momenta(momenta - momenta.mean(0))
    schedule = Schedule(timestep=1.0, equilibration=0.0, production=0.2, frame_interval=1.0)
    found = field_driven(
        start, free, charges=CHARGES, fields=[1e8], temperature=1100.0, schedule=schedule
    )
    mass = 22.98976928 * constants.atomic_mass, 35.45 * constants.atomic_mass
    mean_time = 0.1e-12 + 0.5e-15
    expected = constants.e * 1e8 * mean_time * np.array([1 / mass[0], -1 / mass[1]])
    np.testing.assert_allclose(found["drift_velocity"].values[:, 0], expected, rtol=2e-2)
    assert "not tested" in found.attrs["verdict"]


def test_fluctuation_result_stands_beside():
    driven = xr.Dataset({"conductivity": 350.0, "conductivity_std": 3.0})
    other = xr.Dataset(
        {"conductivity": ("condition", [360.0]), "conductivity_std": ("condition", [4.0])}
    )
    both = beside_fluctuations(driven, other)
    assert both["disagreement"].item() == pytest.approx(-2.0)
    with pytest.raises(ValueError, match="2 conductivities"):
        beside_fluctuations(driven, xr.concat([other, other], dim="condition"))


def test_bad_input_gets_one_sentence():
    def run(**changes):
        given = {"charges": CHARGES, "fields": [1e8], "temperature": 300.0, "schedule": SCHEDULE}
        return field_driven(ions(1, 4), bath(), **(given | changes))

    with pytest.raises(ValueError, match=r"must be positive.*no charge is given for Cl"):
        run(fields=[-1.0], charges={"Na": 1})
    with pytest.raises(ValueError, match=r"carry \+4 e"):
        run(charges={"Na": 2, "Cl": -1})
    with pytest.raises(ValueError, match="expected a vector of three"):
        run(direction=(0.0, 0.0, 0.0))
    with pytest.raises(UnstableDynamics, match=r"heats the ions along it"):
        run(fields=[5e12], schedule=Schedule(timestep=2.0, production=1.0, frame_interval=10.0))
