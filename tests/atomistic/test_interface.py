"""Profiles and capacitances between electrodes, from charges whose answer is known."""

import numpy as np
import pytest
import torch
import torch_sim as ts
import xarray as xr
from ase import Atoms
from ase.constraints import FixAtoms
from scipy import constants

from atomistic.dynamics import Schedule, sample
from atomistic.electrostatics.electrodes import ConstantPotential, Electrode
from atomistic.electrostatics.walls import Walls
from atomistic.observables import layers
from atomistic.observables.capacitance import capacitance, committee
from atomistic.observables.interface import VACUUM, inner_layer, profile
from atomistic.observables.streaming import watch
from atomistic.potentials.compose import Sum
from atomistic.potentials.ionic import sodium_chloride
from atomistic.potentials.load import Potential
from atomistic.schema import CAPACITANCE, PROFILE
from couplers.contract import check

TEMPERATURE = 300.0
THERMAL = constants.k * TEMPERATURE / constants.e
GAP, SIDE = 20.0, 12.0
IDEAL = 0.40914335  # Å, width with which a square lattice of 2 Å is an ideal plane


def cell(ions=8, seed=2):
    """Two plates and salt between."""
    steps = np.arange(6) * 2.0
    plane = np.array([(x, y) for x in steps for y in steps])
    plates = [np.c_[plane, np.full(36, z)] for z in (0.0, GAP)]
    rng = np.random.default_rng(seed)
    grid = np.array([(x, y, z) for x in (3.0, 9.0) for y in (3.0, 9.0) for z in (7.0, 13.0)])
    salt = grid[:ions] + rng.uniform(-1, 1, (ions, 3))
    return Atoms(
        ["C"] * 72 + ["Na", "Cl", "Cl", "Na"] * (ions // 4),
        positions=np.vstack([*plates, salt]),
        cell=(SIDE, SIDE, GAP + 14.0),
        pbc=True,
        constraint=FixAtoms(range(72)),
    )


def electrodes(atoms, voltages, *, boundary="slab", charge=1.0, **settings):
    return ConstantPotential(
        atoms,
        {
            "left": Electrode(range(36), width=IDEAL),
            "right": Electrode(range(36, 72), width=IDEAL),
        },
        {"Na": charge, "Cl": -charge},
        potentials={"left": [-v / 2 for v in voltages], "right": [v / 2 for v in voltages]},
        boundary=boundary,
        **{"cutoff": 7.0, **settings},
    )


def shown(model, frames, voltages, *, bins=400, spread=1.0, seed=3):
    """An observer that was shown ions scattered about their places."""
    seen = layers.start(model, bins=bins, blocks=8)
    rng = np.random.default_rng(seed)
    for _ in range(frames):
        batch = []
        for _ in voltages:
            atoms = cell()
            atoms.positions[72:] += rng.uniform(-spread, spread, (8, 3))
            batch.append(atoms)
        state = ts.io.atoms_to_state(batch, "cpu", torch.float64)
        out = model(state)
        charges = out["charges"].reshape(len(batch), -1)
        layers.push(
            seen,
            state.positions.reshape(len(batch), -1, 3),
            charges,
            out["electrode_charge"],
        )
    return seen


def read(seen, model, electrode, voltage):
    return profile(
        seen,
        model,
        electrode=electrode,
        voltage=voltage,
        temperature=TEMPERATURE,
        charge_numbers={"Na": 1.0, "Cl": -1.0},
    )


@pytest.mark.parametrize("boundary", ["slab", "finite field"])
def test_the_profile_integrates_to_the_voltage_that_was_set(boundary):
    voltages = [2.0, 0.0, 2.0]
    model = electrodes(cell(), voltages, boundary=boundary, charge=0.1)
    seen = shown(model, 16, voltages, bins=2000)
    found = check(read(seen, model, "right", 2.0), PROFILE)
    assert float(found["voltage_drop"]) == pytest.approx(2.0, abs=2e-3)
    assert float(found["voltage"]) == 2.0
    # all ions and all charge are in the profile
    area, z = SIDE**2 * 1e-20, found["z"].values
    step = z[1] - z[0]
    assert found["number_density"].sum("z").values * step * area == pytest.approx([4.0, 4.0])
    metal = float(found["electrode_charge_density"].where(abs(found["z"]) < 6e-10).sum()) * step
    assert metal == pytest.approx(float(found["surface_charge"]), rel=1e-6)
    assert float(found["surface_charge"]) > 0
    bulk = (z >= 8e-10) & (z <= 12e-10)
    assert found["potential"].values[bulk].mean() == pytest.approx(0.0, abs=1e-3)
    # Gauss: the field at the back of the electrode is none, between it is the charge passed
    inside = np.argmin(abs(z - 2e-10))
    passed = float(found["surface_charge"])
    passed += float(found["charge_density"].where(found["z"] < 2e-10).sum()) * step
    # z runs into the liquid from the electrode, whose charge its field leaves behind
    assert found["field"].values[inside] == pytest.approx(passed / constants.epsilon_0, rel=1e-2)
    other = read(seen, model, "left", -2.0)
    assert float(other["electrode_potential"]) < 0 < float(found["electrode_potential"])
    apart = float(found["electrode_potential"]) - float(other["electrode_potential"])
    assert apart == pytest.approx(2.0, abs=1e-6)


def test_fluctuations_of_a_capacitor_and_its_slope():
    """Ions that scatter independently: the mean charge follows the voltage by the empty cell."""
    voltages = [-1.0, 0.0, 1.0]
    model = electrodes(cell(), voltages, charge=0.05)
    frames = 64
    seen = shown(model, frames, voltages)
    empty = float(model.empty_capacitance()[1, 1]) / SIDE**2
    slope = check(capacitance(seen, model, electrode="right", temperature=TEMPERATURE), CAPACITANCE)
    unit = constants.e / 1e-20
    assert slope["cell_capacitance"].values == pytest.approx(empty * unit, rel=0.05)
    noisy = capacitance(
        seen, model, electrode="right", temperature=TEMPERATURE, method="fluctuation"
    )
    # the charge that ions at random induce: q z / gap each, with z uniform over 4 Å in all
    variance = 8 * (0.05 / GAP) ** 2 * (2.0**2 / 12 + 2.0**2 / 12)
    extra = variance / THERMAL / SIDE**2 * unit
    found = noisy["cell_capacitance"].values - empty * unit
    assert found == pytest.approx(extra, rel=1.0)
    assert (found > 0).all()
    for one in (slope, noisy):
        assert one.sizes["draw"] == 400
        assert abs(float(one["potential_of_zero_charge"])) < 0.2
        # half of the cell's voltage falls at either electrode
        ratio = one["differential_capacitance"] / one["cell_capacitance"]
        assert ratio.values == pytest.approx(2.0, rel=0.1)


@pytest.mark.parametrize("method", ["slope", "fluctuation"])
def test_the_error_of_a_capacitance_knows_how_long_a_charge_lasts(method):
    """A charge that relaxes over a block, as often in melts, and whose variance is known."""
    model = electrodes(cell(), [-1.0, -1.0, 1.0, 1.0])
    rng = np.random.default_rng(4)
    spread, blocks, frames, kept = 0.3, 16, 8, np.exp(-1 / 8)
    state = layers.start(model, bins=20, blocks=16)
    area = (SIDE * 1e-10) ** 2
    empty = float(model.empty_capacitance()[1, 1])
    truth = (empty + spread**2 / THERMAL) * constants.e / area
    off = []
    for _ in range(80):
        walk = np.empty((blocks * frames, 4))
        walk[0] = spread * rng.standard_normal(4)
        for n in range(1, len(walk)):
            step = spread * np.sqrt(1 - kept**2) * rng.standard_normal(4)
            walk[n] = kept * walk[n - 1] + step
        charge = walk + np.array([-1.0, -1.0, 1.0, 1.0]) * (empty + spread**2 / THERMAL)
        both = np.stack([-charge, charge], -1)
        product = (both[..., :, None] * both[..., None, :]).reshape(*charge.shape, 4)
        seen = np.concatenate([np.zeros((*charge.shape, 60)), both, product, both], -1)
        seen = seen.reshape(blocks, frames, 4, -1).mean(1)
        state.series[:] = torch.as_tensor(seen)
        state.frames, state.block = blocks * frames, frames
        found = capacitance(
            state,
            model,
            electrode="right",
            temperature=TEMPERATURE,
            method=method,
            draws=100,
        )
        off.append((found["cell_capacitance_draw"].values < truth).mean(1))
    rank = np.concatenate(off)
    assert 0.58 < ((rank > 0.16) & (rank < 0.84)).mean() < 0.85
    assert ((rank > 0.025) & (rank < 0.975)).mean() > 0.91


def test_blocks_double_and_memory_stays():
    model = electrodes(cell(), [1.0])
    few, many = shown(model, 5, [0.0], bins=50), shown(model, 21, [0.0], bins=50)
    assert few.series.shape == many.series.shape
    assert many.block == 4 and many.frames == 21
    # 20 of 21 frames are in finished blocks
    counted = many.series[:5, 0, : 2 * 50].sum(1)
    assert torch.allclose(counted, torch.full_like(counted, 8.0))


def test_runs_of_one_batch_are_joined():
    model = electrodes(cell(), [0.0, 1.0])
    parts = [shown(model, frames, [0.0, 1.0], bins=50, seed=frames) for frames in (12, 37, 9)]
    joined = layers.join(parts)
    assert (joined.block, joined.frames) == (8, 8 + 32 + 8)
    # the mean over all frames that are in whole blocks of the longest run's length
    whole = [part.frames // 8 * 8 // part.block for part in parts]
    mean = sum(
        part.series[:count].sum(0) * part.block for part, count in zip(parts, whole, strict=True)
    )
    assert torch.allclose(joined.series[:6].mean(0), mean / 48)
    found = profile(
        joined,
        model,
        electrode="left",
        voltage=-1.0,
        temperature=TEMPERATURE,
        charge_numbers={"Na": 1.0, "Cl": -1.0},
    )
    assert found["number_density"].sum() > 0
    before = joined.series[:6].clone()
    charge = torch.zeros(2, 80, dtype=torch.float64)
    for _ in range(16):  # it goes on: at eight blocks of eight frames neighbours are put together
        layers.push(joined, torch.zeros(2, 80, 3), charge, torch.zeros(2, 2))
    assert (joined.block, joined.frames) == (16, 64)
    assert torch.allclose(joined.series[:3], 0.5 * (before[::2] + before[1::2]))
    other = shown(model, 9, [0.0, 1.0], bins=60)
    short = shown(model, 3, [0.0, 1.0], bins=50)
    with pytest.raises(ValueError, match="part 1 differs from the first in bins, width, systems.*"):
        layers.join([parts[0], other])
    with pytest.raises(ValueError, match="has 3 frame"):
        layers.join([parts[1], short])
    with pytest.raises(ValueError, match="no parts"):
        layers.join([])


@pytest.fixture
def melt():
    """A potential with electrodes, in which a few ions move."""
    atoms = cell()
    model = Sum(
        [
            electrodes(atoms, [0.0, 1.0], charge=0.1, widths={"Na": 1.0, "Cl": 1.0}),
            Walls(low=2.0, high=GAP - 2.0, elements=["Na", "Cl"], energy=0.026, length=0.4),
        ]
    )
    return Potential(name="few ions", model=model, species=("C", "Na", "Cl"), cutoff=7.0)


def run(melt, observers, length, **settings):
    return sample(
        [[cell(), cell()]],
        melt,
        temperatures=[TEMPERATURE],
        schedule=Schedule(timestep=2.0, equilibration=0.0, production=length, frame_interval=20.0),
        observers=observers,
        observe_interval=4.0,
        friction=2.0,
        seed=5,
        **settings,
    )


def test_a_killed_run_goes_on_to_the_bit(melt, tmp_path):
    whole = layers.start(melt.model, bins=60)
    trajectory = run(melt, [whole], 0.2)
    held = trajectory["position"].values[0, :, :, :72]
    assert np.ptp(held, axis=1).max() == 0.0  # electrodes stay, and nothing is shifted with them
    file = tmp_path / "run.pt"
    calls = []

    def dies(done, total, label):
        calls.append(done)
        if done >= 60:
            raise KeyboardInterrupt

    first = layers.start(melt.model, bins=60)
    with pytest.raises(KeyboardInterrupt):
        run(melt, [first], 0.2, checkpoint=file, checkpoint_interval=0.05, progress=dies)
    again = layers.start(melt.model, bins=60)
    resumed = run(melt, [again], 0.2, checkpoint=file, checkpoint_interval=0.05)
    assert again.frames == whole.frames == 50
    assert torch.equal(again.series, whole.series)
    xr.testing.assert_equal(resumed, trajectory)


def test_ions_have_the_temperature_and_electrodes_take_no_part(melt):
    trajectory = run(melt, [], 2.0)
    assert trajectory.sizes["frame"] == 100
    position = trajectory["position"].values[0, :, :, 72:] * 1e10
    # at rest the plates would cool ions that share a thermostat's count with them
    speed = np.diff(position, axis=1) / 0.02
    mass = np.where(np.array(cell().get_chemical_symbols()[72:]) == "Na", 22.99, 35.45)
    kinetic = (mass[:, None] * speed**2).mean() * 1.0364e-4
    assert kinetic == pytest.approx(THERMAL, rel=0.25)


def test_potentials_without_charges_are_refused_before_any_step():
    with pytest.raises(ValueError, match="holds 0 ConstantPotential models"):
        layers.start(sodium_chloride(cutoff=5.0).model)
    model = electrodes(cell(), [0.0])
    with pytest.raises(ValueError, match="at least 10 bins"):
        layers.start(model, bins=2)
    with pytest.raises(ValueError, match="0 frame"):
        read(layers.start(model), model, "left", 0.0)
    seen = shown(model, 8, [0.0])
    with pytest.raises(ValueError, match="there is no electrode 'top'; there are left, right"):
        read(seen, model, "top", 0.0)
    with pytest.raises(ValueError, match="1 V was not run; there are 0 V"):
        read(seen, model, "left", 1.0)
    with pytest.raises(ValueError, match="one voltage was run"):
        capacitance(seen, model, electrode="left", temperature=300.0)
    with pytest.raises(ValueError, match="layers need charges"):
        watch(seen, ts.io.atoms_to_state([cell()], "cpu", torch.float64), {})


def flat_profile(charge, inner=0.3, plane=3e-10):
    """A PROFILE in front of an electrode with an inner layer (F m-2) and a thin diffuse one."""
    z = np.linspace(-2e-10, 40e-10, 421)
    drop = charge / inner
    diffuse = 0.05 * charge
    potential = np.where(z < plane, diffuse + drop * (1 - z / plane), 0.0)
    potential = np.where(z >= plane, diffuse * np.exp(-(z - plane) / 1e-10), potential)
    density = np.where(z >= plane - 1e-13, 1e26, 0.0)
    units = {"units": "V"}
    return xr.Dataset(
        {
            "potential": ("z", potential, units),
            "potential_std": ("z", np.full_like(z, 1e-3), units),
            "number_density": (("species", "z"), [density, density], {"units": "m-3"}),
            "surface_charge": ((), charge, {"units": "C m-2"}),
            "electrode_potential": ((), diffuse + drop, units),
            "electrode_potential_std": ((), 1e-3, units),
        },
        coords={"z": z, "species": ["Na", "Cl"]},
    )


def test_inner_layer_is_what_lies_before_the_ions():
    found = inner_layer([flat_profile(charge) for charge in (-0.05, 0.0, 0.05)])
    assert float(found["plane_of_closest_approach"]) == pytest.approx(3e-10, abs=2e-11)
    assert float(found["stern_capacitance"]) == pytest.approx(0.3, rel=0.02)
    assert float(found["stern_capacitance_std"]) > 0
    with pytest.raises(ValueError, match="two or more"):
        inner_layer([flat_profile(0.0)])


def test_molten_salt_between_electrodes(example, tmp_path):
    study = example("molten_salt_capacitor")
    seen, model = study.run(0.4, voltages=(0.0, 3.0), checkpoint=tmp_path / "run.pt")
    found = study.results(seen, model, (0.0, 3.0))
    assert set(found) == {
        "/profile/+0.0 V",
        "/profile/+3.0 V",
        "/capacitance/slope",
        "/capacitance/fluctuation",
    }
    layer = found["/profile/+3.0 V"]
    area = (study.SITES * study.frames.SPACING * 1e-10) ** 2
    step = float(layer["z"][1] - layer["z"][0])
    ions = layer["number_density"].sum("z").values * step * area
    assert ions == pytest.approx([study.PAIRS, study.PAIRS], rel=1e-6)
    # the left plate is the negative one, and cations come to it rather than to the other
    assert float(layer["surface_charge"]) < 0 < float(layer["electrode_potential_std"])
    other = read(seen, model.model, "right", 3.0)
    near = [
        float(one["charge_density"].where((one["z"] > 0) & (one["z"] < 5e-10)).sum())
        for one in (layer, other)
    ]
    assert near[0] > near[1]
    # nothing passes the walls
    assert float(layer["number_density"].where(layer["z"] < 1e-10).sum()) == 0.0
    # without a medium there is none to end
    for name, one in study.ended(found, model).items():
        for value in ("potential", "surface_charge"):
            assert one[value].values == pytest.approx(found[name][value].values, abs=1e-12)
    study.draw(found, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 10_000


def test_a_committee_keeps_its_own_disagreement_apart():
    rng = np.random.default_rng(0)
    truth, sampling, model = 0.2, 0.004, 0.02
    members = []
    for _ in range(400):
        own = truth + model * rng.standard_normal()
        value = own + sampling * rng.standard_normal(3)
        members.append(
            xr.Dataset(
                {
                    "differential_capacitance": ("potential", value, {"units": "F m-2"}),
                    "differential_capacitance_std": (
                        "potential",
                        np.full(3, sampling),
                        {"units": "F m-2"},
                    ),
                },
                coords={"potential": ("potential", [-0.1, 0.0, 0.1], {"units": "V"})},
            )
        )
    found = committee(members)
    assert found["differential_capacitance_model_std"].values == pytest.approx(model, rel=0.1)
    assert found["differential_capacitance_sampling_std"].values == pytest.approx(sampling / 20)
    with pytest.raises(ValueError, match="two or more"):
        committee(members[:1])


def test_draws_of_a_committee_hold_both_parts_and_go_through_the_border():
    rng = np.random.default_rng(1)
    volts = np.linspace(-0.1, 0.1, 4)
    members = []
    for shift in (-0.02, 0.0, 0.01, 0.03):  # of the whole curve: one potential is stiffer
        value = 0.2 + shift + volts**2
        drawn = value[:, None] + 0.004 * rng.standard_normal((4, 2000))
        units = {"units": "F m-2"}
        members.append(
            xr.Dataset(
                {
                    "differential_capacitance": ("potential", value, units),
                    "differential_capacitance_std": ("potential", np.full(4, 0.004), units),
                    "differential_capacitance_draw": (("potential", "draw"), drawn, units),
                    "surface_charge": ("potential", volts, {"units": "C m-2"}),
                    "surface_charge_std": ("potential", np.full(4, 1e-3), {"units": "C m-2"}),
                    "potential_of_zero_charge": ((), shift, {"units": "V"}),
                    "potential_of_zero_charge_std": ((), 1e-3, {"units": "V"}),
                },
                coords={"potential": ("potential", volts + shift, {"units": "V"})},
                attrs={"reference": "bulk", "method": "slope"},
            )
        )
    found = check(committee(members), CAPACITANCE)
    drawn = found["differential_capacitance_draw"].values
    assert drawn.shape == (4, 2000)
    assert drawn.mean(1) == pytest.approx(found["differential_capacitance"].values, rel=5e-3)
    assert drawn.std(1) == pytest.approx(found["differential_capacitance_std"].values, rel=0.05)
    model = found["differential_capacitance_model_std"].values
    # what the potentials disagree on is one shift of the whole curve
    together = np.cov(drawn)[0, 3]
    assert together == pytest.approx(model[0] * model[3], rel=0.1)
    zero = found["potential_of_zero_charge_draw"].values
    assert zero.std() == pytest.approx(float(found["potential_of_zero_charge_std"]), rel=0.05)
    assert np.corrcoef(zero, drawn[0])[0, 1] > 0.9
    # members that lie wide apart leave no draw below zero, or say so
    wide = [one.copy(deep=True) for one in members]
    for one, factor in zip(wide, (0.2, 1.0, 1.0, 2.0), strict=True):
        for end in ("", "_draw"):
            one[f"differential_capacitance{end}"].values[:] *= factor
    assert (committee(wide)["differential_capacitance_draw"] > 0).all()
    wild = [members[1].copy(deep=True) for _ in range(7)]
    for number in range(4):  # at each voltage another one is wild
        for end in ("", "_draw"):
            wild[number][f"differential_capacitance{end}"].values[number] *= 1e3
    with pytest.raises(ValueError, match="disagree so much"):
        committee(wild)


def test_permittivity_of_vacuum_in_units_of_the_dynamics():
    assert pytest.approx(0.0055263, rel=1e-4) == VACUUM
