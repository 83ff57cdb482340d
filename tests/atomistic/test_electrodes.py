"""Electrodes at constant potential against theory: capacitors, images, forces, energy kept."""

import math

import numpy as np
import pytest
import torch
import torch_sim as ts
from ase import Atoms
from scipy.constants import elementary_charge, epsilon_0
from scipy.optimize import brentq
from scipy.special import digamma, erfc, k0
from torch_sim.constraints import FixAtoms
from torch_sim.integrators.md import MDState, velocity_verlet_step
from torch_sim.units import MetalUnits

from atomistic.electrostatics.coulomb import Coulomb
from atomistic.electrostatics.electrodes import ConstantPotential, Electrode
from atomistic.electrostatics.ewald import COULOMB
from atomistic.potentials.compose import Sum

VACUUM = epsilon_0 / elementary_charge * 1e-10  # e V-1 Å-1


def square(number, spacing, height):
    x, y = np.meshgrid(np.arange(number) * spacing, np.arange(number) * spacing)
    return np.c_[x.ravel(), y.ravel(), np.full(number**2, height)]


def plates(number=6, spacing=2.5, gap=18.0, layers=1, ions=0, room=6.0, seed=4):
    """Two plates of carbon with salt between, and the indices of the plates."""
    apart = np.arange(layers) * 2.0
    left = np.vstack([square(number, spacing, -z) for z in apart])
    right = np.vstack([square(number, spacing, gap + z) for z in apart])
    rng = np.random.default_rng(seed)
    width = number * spacing
    grid = np.array([(x, y, z) for x in (0.25, 0.75) for y in (0.25, 0.75) for z in range(4)])
    salt = grid[rng.permutation(16)[:ions]] * [width, width, (gap - 7.0) / 3] + [0.3, 0.2, 3.5]
    salt += rng.uniform(-0.4, 0.4, salt.shape)
    symbols = ["C"] * (2 * len(left)) + ["Na", "Cl"] * (ions // 2) + ["Na"] * (ions % 2)
    height = gap + 4.0 * (layers - 1) + room
    atoms = Atoms(symbols, positions=np.vstack([left, right, salt]), cell=(width, width, height))
    atoms.pbc = True
    return atoms, np.arange(len(left)), np.arange(len(left), 2 * len(left))


def between(atoms, left, right, voltages, *, width=0.6, boundary="slab", charges=None, **settings):
    metal = {key: settings.pop(key) for key in ("thomas_fermi_length",) if key in settings}
    if metal:
        metal["atomic_density"] = 0.08
    return ConstantPotential(
        atoms,
        {
            "left": Electrode(left, width=width, **metal),
            "right": Electrode(right, width=width, **metal),
        },
        charges or {"Na": 1.0, "Cl": -1.0},
        potentials={"left": [-v / 2 for v in voltages], "right": [v / 2 for v in voltages]},
        boundary=boundary,
        **{"cutoff": 9.0, "accuracy": 1e-9, **settings},
    )


def state_of(atoms, number=1):
    return ts.io.atoms_to_state([atoms] * number, "cpu", torch.float64)


def evaluate(model, atoms, number=1):
    found = model(state_of(atoms, number))
    return {name: value.numpy() for name, value in found.items()}


def offset(spacing, width):
    """Distance (Å) by which a square lattice of Gaussians is in front of an ideal plane of metal.

    From its potential at its own sites, less that of a plane of the same charge.
    """
    steps = np.arange(-60, 61)
    k = 2 * np.pi / spacing * np.hypot(*np.meshgrid(steps, steps)).ravel()
    k = k[k > 0]
    waves = (2 * np.pi / k * erfc(k * width / math.sqrt(2))).sum()
    return (waves - 2 * np.pi * math.sqrt(2 / np.pi) * width) / (4 * np.pi)


def gold():
    """The planar example of the ELECTRODE package of LAMMPS: two plates of two layers."""
    spacing, count = 2.086672, 12
    column, row = (axis.ravel() for axis in np.meshgrid(np.arange(count), np.arange(count)))
    even = (column + row) % 2 == 0

    def layer(chosen, z):
        return np.c_[column[chosen] * spacing, row[chosen] * spacing, np.full(chosen.sum(), z)]

    position = [layer(even, 8.0), layer(~even, 10.086673)]
    position += [layer(even, 32.173344), layer(~even, 34.260021)]
    cell = (25.040066, 25.040066, 44.346687)
    atoms = Atoms("Au288", positions=np.vstack(position), cell=cell, pbc=True)
    return atoms, np.arange(144), np.arange(144, 288)


@pytest.mark.parametrize("solver", ["matrix", "conjugate gradients"])
@pytest.mark.parametrize(("boundary", "charge"), [("slab", 0.15460245), ("finite field", 0.15451)])
def test_planar_gold_of_lammps(boundary, charge, solver):
    model = between(*gold(), [1.0], width=1 / 1.979, boundary=boundary, charges={}, solver=solver)
    found = evaluate(model, gold()[0])["electrode_charge"][0]
    assert found == pytest.approx([-charge, charge], rel=1e-3)


@pytest.mark.parametrize(("boundary", "room"), [("slab", 0.5), ("finite field", 12.0)])
@pytest.mark.parametrize(("spacing", "width"), [(2.5, 1.0), (2.5, 0.505), (2.0, 0.7)])
def test_empty_plates_are_the_capacitor_of_their_lattice(boundary, room, spacing, width):
    atoms, left, right = plates(4, spacing, 18.0, room=room)
    model = between(
        atoms, left, right, [1.0, -3.0], width=width, boundary=boundary, charges={}, accuracy=1e-12
    )
    found = evaluate(model, atoms, 2)["electrode_charge"]
    wall = offset(spacing, width)
    area, inside = (4 * spacing) ** 2, 18.0 + 2 * wall
    if boundary == "slab":
        per_volt = VACUUM * area / inside
    else:
        # the field in the gap behind answers to the offset, for the sites are at one potential
        sigma = np.linalg.solve([[18, 0, 2 * wall], [0, room, 2 * wall], [1, 1, -1]], [1, 0, 0])[2]
        per_volt = VACUUM * area * sigma
    assert found[:, 1] == pytest.approx([per_volt, -3 * per_volt], rel=1e-9)
    assert found.sum(1) == pytest.approx(0.0, abs=1e-12)
    assert model.empty_capacitance().numpy() == pytest.approx(
        per_volt * np.array([[1, -1], [-1, 1]]), rel=1e-8
    )


def ideal(spacing):
    """Width (Å) at which the offset is zero: an ideal plane, with no field behind it."""
    return brentq(lambda width: offset(spacing, width), 0.1 * spacing, 0.5 * spacing)


def test_both_routes_give_one_grand_potential():
    atoms, left, right = plates(4, 2.5, ions=4)
    found = [
        evaluate(between(atoms, left, right, [2.0], boundary=boundary, width=ideal(2.5)), atoms)
        for boundary in ("slab", "finite field")
    ]
    assert found[0]["energy"] == pytest.approx(found[1]["energy"], abs=1e-5)


def test_thomas_fermi_length_moves_the_plane_of_the_metal():
    atoms, left, right = plates(4, 2.5, 18.0, room=0.5)
    length = 0.7
    model = between(
        atoms, left, right, [1.0], charges={}, accuracy=1e-12, thomas_fermi_length=length
    )
    found = evaluate(model, atoms)["electrode_charge"][0, 1]
    apart = 18.0 + 2 * (offset(2.5, 0.6) + length**2 * 0.08 * 2.5**2)
    assert found == pytest.approx(VACUUM * 100.0 / apart, rel=1e-9)


def test_a_medium_weakens_charges_and_fills_the_capacitor():
    atoms, left, right = plates(4, 2.5, ions=4)
    inside = between(atoms, left, right, [2.0], relative_permittivity=4.0)
    found = evaluate(inside, atoms)
    # the same as half the charges at twice the voltage
    other = between(atoms, left, right, [4.0], charges={"Na": 0.5, "Cl": -0.5})
    same = evaluate(other, atoms)
    assert found["energy"] == pytest.approx(same["energy"], rel=1e-12)
    assert found["forces"] == pytest.approx(same["forces"], rel=1e-9, abs=1e-12)
    assert found["charges"] == pytest.approx(2 * same["charges"], rel=1e-9)
    assert torch.allclose(inside.empty_capacitance(), 4 * other.empty_capacitance())


def test_an_ion_and_its_image():
    spacing, gap = 2.5, 20.0
    width = ideal(spacing)
    atoms, left, right = plates(12, spacing, gap, room=0.5)
    atoms += Atoms("Na", positions=[[0.3, 0.7, gap / 2]])
    model = between(atoms, left, right, [0.0], width=width, accuracy=1e-10)
    rows = np.arange(-3, 4) * 12 * spacing
    lateral = np.hypot(*np.meshgrid(rows, rows)).ravel()
    lateral = lateral[lateral > 0]

    def image(z):
        """Energy (eV) of a charge, repeated sideways, between two ideal planes of metal."""
        x, order = z / gap, np.arange(1, 30)[:, None]
        alone = COULOMB / (4 * gap) * (digamma(x) + digamma(1 - x))
        waves = np.sin(order * np.pi * x) ** 2 * k0(order * np.pi * lateral / gap)
        return alone + 2 * COULOMB / gap * waves.sum()

    middle = evaluate(model, atoms)["energy"][0]
    for z in (8.0, 6.0, 5.0):
        atoms.positions[-1, 2] = z
        found = evaluate(model, atoms)
        force = (image(z - 1e-4) - image(z + 1e-4)) / 2e-4
        assert found["energy"][0] - middle == pytest.approx(image(z) - image(gap / 2), rel=5e-3)
        assert found["forces"][-1, 2] == pytest.approx(force, rel=5e-3)
        share = z / gap
        assert found["electrode_charge"][0] == pytest.approx([share - 1, -share], abs=2e-6)
        assert found["electrode_charge"].sum() == pytest.approx(-1.0, abs=1e-12)
    assert not found["forces"][:-1].any()


@pytest.mark.parametrize("solver", ["matrix", "conjugate gradients"])
@pytest.mark.parametrize(
    ("boundary", "spacing"), [("slab", None), ("finite field", None), ("slab", 1.0)]
)
def test_forces_are_the_slopes_of_the_grand_potential(boundary, spacing, solver):
    atoms, left, right = plates(layers=2, ions=12)
    model = between(
        atoms,
        left,
        right,
        [1.5],
        boundary=boundary,
        solver=solver,
        tolerance=1e-11,
        spacing=spacing,
    )
    model_forces = evaluate(model, atoms)["forces"]
    scale = np.abs(model_forces).max()
    for atom, axis in ((-12, 2), (-7, 0), (-1, 1), (-3, 2)):
        energy = []
        for step in (1e-3, -1e-3, 2e-3, -2e-3):
            moved = atoms.copy()
            moved.positions[atom, axis] += step
            energy.append(evaluate(model, moved)["energy"][0])
        one, other, two, another = energy
        slope = (8 * (one - other) - (two - another)) / 12e-3
        assert abs(model_forces[atom, axis] + slope) < 1e-6 * scale


@pytest.mark.parametrize("solver", ["matrix", "conjugate gradients"])
@pytest.mark.parametrize("boundary", ["slab", "finite field"])
def test_mesh_gives_what_plane_waves_give(boundary, solver):
    atoms, left, right = plates(layers=2, ions=12)
    exact = evaluate(between(atoms, left, right, [1.5], boundary=boundary, accuracy=1e-12), atoms)
    found = evaluate(
        between(
            atoms,
            left,
            right,
            [1.5],
            boundary=boundary,
            solver=solver,
            tolerance=1e-11,
            accuracy=1e-10,
            spacing=0.35,
        ),
        atoms,
    )
    assert found["forces"] == pytest.approx(exact["forces"], abs=1e-5)
    charge = exact["electrode_charge"][0, 1]
    assert found["electrode_charge"][0, 1] == pytest.approx(charge, rel=1e-8)


def test_charges_that_follow_positions_keep_forces_conservative():
    atoms, left, right = plates(layers=1, ions=6)

    def charges(position):
        sign = torch.tensor([1.0, -1.0] * 3, dtype=torch.float64)
        bent = 0.1 * torch.sin(0.3 * position[:, -6:, 2])
        return torch.cat([torch.zeros_like(position[:, :-6, 0]), sign + bent], 1)

    model = between(atoms, left, right, [1.0], charges=charges)
    energy = []
    for step in (1e-4, -1e-4):
        moved = atoms.copy()
        moved.positions[-2, 2] += step
        energy.append(evaluate(model, moved)["energy"][0])
    force = evaluate(model, atoms)["forces"][-2, 2]
    assert force == pytest.approx(-(energy[0] - energy[1]) / 2e-4, rel=1e-6)


def test_electrodes_are_equipotentials():
    atoms, left, right = plates(layers=2, ions=10)
    model = between(atoms, left, right, [1.5], accuracy=1e-10)
    charge = torch.tensor(evaluate(model, atoms)["charges"])[None].requires_grad_(True)
    width = torch.tensor(np.where(atoms.symbols == "C", 0.6, 0.0))[None]
    whole = Coulomb({}, slab=True, cutoff=7.0, accuracy=1e-10)  # another split, no matrix
    position, cell = torch.tensor(atoms.positions)[None], torch.tensor(atoms.cell.array)[None]
    (found,) = torch.autograd.grad(whole.energy(position, cell, charge, width=width), charge)
    potential = found[0].numpy()
    assert np.ptp(potential[left]) < 1e-7 and np.ptp(potential[right]) < 1e-7
    assert potential[right].mean() - potential[left].mean() == pytest.approx(1.5, abs=1e-7)


def test_slab_finite_field_and_mirrored_cell_agree():
    spacing, gap = 2.5, 18.0
    width = ideal(spacing)
    atoms, left, right = plates(6, spacing, gap, ions=12)
    found = {
        boundary: evaluate(
            between(atoms, left, right, [1.5], width=width, boundary=boundary, cutoff=10.0), atoms
        )
        for boundary in ("slab", "finite field")
    }
    image = atoms.copy()
    image.positions[:, 2] = 2 * gap + 8.0 - image.positions[:, 2]
    both = atoms + image
    both.set_cell((15.0, 15.0, 2 * gap + 16.0))
    number = len(atoms)
    metal = {
        name: Electrode(index, width=width)
        for name, index in (
            ("left", left),
            ("right", right),
            ("right again", right + number),
            ("left again", left + number),
        )
    }
    model = ConstantPotential(
        both,
        metal,
        {"Na": 1.0, "Cl": -1.0},
        potentials={
            "left": [-0.75],
            "right": [0.75],
            "right again": [0.75],
            "left again": [-0.75],
        },
        boundary="periodic",
        cutoff=10.0,
        accuracy=1e-9,
    )
    mirrored = evaluate(model, both)
    mirrored = {name: mirrored[name][:number] for name in ("charges", "forces")}
    for other in (found["finite field"], mirrored):
        for name in ("charges", "forces"):
            assert other[name] == pytest.approx(found["slab"][name], abs=1e-4)


def test_a_batch_gives_what_its_systems_give_alone():
    atoms, left, right = plates(ions=8)
    shaken = atoms.copy()
    shaken.positions[-8:] += 0.2
    voltages = [0.0, 1.0, -2.0]
    three = between(atoms, left, right, voltages)
    state = ts.io.atoms_to_state([atoms, shaken, atoms], "cpu", torch.float64)
    batch = three(state)
    for index, (voltage, one) in enumerate(zip(voltages, (atoms, shaken, atoms), strict=True)):
        alone = between(atoms, left, right, [voltage])(state_of(one))
        assert torch.allclose(batch["energy"][index], alone["energy"][0], rtol=0, atol=1e-10)
        part = slice(index * len(atoms), (index + 1) * len(atoms))
        for name in ("forces", "charges"):
            assert torch.allclose(batch[name][part], alone[name], rtol=0, atol=1e-10)


class Walls(Coulomb):
    """Repulsion that keeps ions from each other and from the plates."""

    def energy(self, position, cell, charge, *, width=None):
        apart = position[:, :, None] - position[:, None]
        apart = apart - torch.round(apart / 15.0) * 15.0 * torch.tensor([1.0, 1.0, 0.0])
        ions = torch.arange(position.shape[1]) >= 72
        square = apart.square().sum(3) + 1e3 * torch.eye(position.shape[1])
        core = 1000 * torch.exp(-square.sqrt() / 0.317)
        z = position[..., 2]
        walls = 1000 * (torch.exp(-z / 0.317) + torch.exp(-(18.0 - z) / 0.317))
        return (0.5 * core.sum(2) + walls)[:, ions].sum(1)


def test_energy_is_kept_at_constant_potential():
    atoms, left, right = plates(ions=12)
    model = Sum(
        [
            between(atoms, left, right, [2.0], boundary="finite field", accuracy=1e-10),
            Walls({"Na": 0.0, "Cl": 0.0, "C": 0.0}, slab=True),
        ]
    )
    state = state_of(atoms)
    state.constraints = FixAtoms(atom_idx=torch.arange(72))
    generator = torch.Generator().manual_seed(6)
    kT = 600 * float(MetalUnits.temperature)
    momenta = torch.randn(len(atoms), 3, generator=generator, dtype=torch.float64)
    momenta *= (state.masses * kT).sqrt()[:, None]
    momenta[:72] = 0.0
    found = model(state)
    start = MDState.from_state(
        state, momenta=momenta, energy=found["energy"], forces=found["forces"]
    )
    warm = torch.tensor(2e-3 * float(MetalUnits.time), dtype=torch.float64)
    for _ in range(200):
        start = velocity_verlet_step(state=start, dt=warm, model=model)
        start.momenta = 0.98 * start.momenta

    def run(step, steps):
        moving = start.clone()
        length = torch.tensor(step * 1e-3 * float(MetalUnits.time), dtype=torch.float64)
        kept, charge = [], []
        for _ in range(steps):
            moving = velocity_verlet_step(state=moving, dt=length, model=model)
            kinetic = float((moving.momenta**2 / (2 * moving.masses[:, None])).sum())
            kept.append(float(moving.energy) + kinetic)
            charge.append(float(moving.electrode_charge[0, 1]))
        return np.array(kept), np.array(charge), kinetic

    coarse, charge, kinetic = run(1.0, 150)
    fine, _, _ = run(0.5, 300)
    assert np.ptp(charge) > 0.01  # the electrodes do take part
    # velocity Verlet errs with the square of the step; nothing else must be left
    left_over = (4 * fine[1::2] - coarse) / 3
    assert np.ptp(left_over) < 1e-5 * kinetic


@pytest.fixture
def cell():
    return plates(ions=4)


def refused(cell, sentence, **changes):
    atoms, left, right = cell
    given = {
        "structure": atoms,
        "electrodes": {"left": Electrode(left), "right": Electrode(right)},
        "charges": {"Na": 1.0, "Cl": -1.0},
        "potentials": {"left": [0.0], "right": [1.0]},
        **changes,
    }
    structure, electrodes, charges = (
        given.pop(name) for name in ("structure", "electrodes", "charges")
    )
    with pytest.raises(ValueError, match=sentence):
        ConstantPotential(structure, electrodes, charges, **given)


def test_wrong_structures_are_refused(cell):
    atoms, left, _ = cell
    tilted = atoms.copy()
    tilted.rotate(30, "x", rotate_cell=True)
    refused(cell, "must be parallel to the plane of the first two", structure=tilted)
    overlapping = atoms.copy()
    overlapping.positions[-1] = overlapping.positions[3] + [0.0, 0.0, 0.4]
    refused(cell, r"lies 0.40 Å from the electrode atom 3; electrolyte", structure=overlapping)
    beyond = atoms.copy()
    beyond.positions[-1, 2] = -3.0
    refused(cell, "not between the electrodes", structure=beyond)
    slanted = atoms.copy()
    slanted.positions[left[0], 2] = 19.0
    refused(cell, "left and right overlap along z|right and left overlap", structure=slanted)
    flat = atoms.copy()
    flat.cell[2, 2] = 17.0
    refused(cell, "but the cell is 17.00 Å high", structure=flat)
    bare = Atoms("C2Na2", positions=np.arange(12).reshape(4, 3))
    refused(cell, "has no cell", structure=bare)


def test_wrong_numbers_are_refused_all_at_once(cell):
    _, left, right = cell
    refused(cell, "no charge is given for Cl", charges={"Na": 1.0})
    refused(cell, "3 charges were given for 76 atoms", charges=[1.0, 1.0, 1.0])
    refused(cell, "potentials are given of left", potentials={"left": [1.0]})
    refused(cell, r"lengths \[1, 2\]", potentials={"left": [1.0], "right": [1.0, 2.0]})
    refused(cell, "accuracy is 2.*cutoff is -1 Å", cutoff=-1, accuracy=2)
    refused(cell, "felt beyond the cutoff", cutoff=2.0)
    refused(cell, "boundary is 'vacuum'", boundary="vacuum")
    refused(cell, "solver is 'gauss'", solver="gauss")
    refused(cell, "relative_permittivity is 0", relative_permittivity=0)
    refused(cell, "they are for a slab", boundary="finite field", fields=[0.1])
    refused(cell, "2 fields are given", fields=[0.1, 0.2])
    refused(
        cell,
        "belongs to two electrodes",
        electrodes={"left": Electrode(left), "right": Electrode([*right, 0])},
    )
    refused(
        cell,
        "beyond the structure's 76",
        electrodes={"left": Electrode(left), "right": Electrode([*right, 99])},
    )
    for arguments, sentence in (
        ({"atoms": ()}, "it has no atoms"),
        ({"atoms": (1, 1)}, "named twice"),
        ({"atoms": (1,), "width": 0.0}, "must be positive"),
        ({"atoms": (1,), "thomas_fermi_length": 0.5}, "needs atomic_density"),
        ({"atoms": (1,), "thomas_fermi_length": -0.5}, "must not be negative"),
    ):
        with pytest.raises(ValueError, match=sentence):
            Electrode(**arguments)


def test_states_of_another_cell_are_refused(cell):
    atoms, left, _ = cell
    model = between(*cell, [1.0])
    with pytest.raises(ValueError, match="one system for each potential"):
        evaluate(model, atoms, 2)
    moved = atoms.copy()
    moved.positions[left[2], 0] += 0.1
    with pytest.raises(ValueError, match="electrode atoms are 0.1 Å from where"):
        evaluate(model, moved)
    wider = atoms.copy()
    wider.cell[0, 0] += 1.0
    with pytest.raises(ValueError, match="the cell is not the one"):
        evaluate(model, wider)
    away = atoms.copy()
    away.positions[-1, 2] = 40.0
    with pytest.raises(ValueError, match="further apart along z than the cell is high"):
        evaluate(model, away)
    model = between(*cell, [0.0, 1.0])
    overlapping = atoms.copy()
    overlapping.positions[-1] = overlapping.positions[3] + [0.0, 0.0, 0.4]
    both = ts.io.atoms_to_state([atoms, overlapping], "cpu", torch.float64)
    with pytest.raises(ValueError, match=r"of system 1 lies 0.40 Å from the electrode atom 3;"):
        model(both)
