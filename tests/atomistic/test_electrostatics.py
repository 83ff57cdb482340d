"""Sums of charges against exact answers: Madelung, Fourier, Parry's sum of slabs, derivatives."""

import math

import numpy as np
import pytest
import torch
import torch_sim as ts
from ase import Atoms
from ase.build import bulk
from scipy.special import erf, erfc

from atomistic.electrostatics.coulomb import Coulomb, switch
from atomistic.electrostatics.ewald import COULOMB
from atomistic.electrostatics.pairs import Pairs
from atomistic.electrostatics.walls import Walls
from atomistic.potentials.compose import Sum

SKEW = np.array([[9.0, 0.0, 0.0], [2.0, 8.0, 0.0], [-1.5, 1.0, 10.0]])


def state_of(*structures):
    return ts.io.atoms_to_state(list(structures), "cpu", torch.float64)


def evaluate(model, *structures):
    return {name: value.numpy() for name, value in model(state_of(*structures)).items()}


def scattered(cell, seed=1, pairs=5):
    rng = np.random.default_rng(seed)
    fraction = (np.arange(2 * pairs)[:, None] * [0.31, 0.47, 0.19] + 0.05 * rng.random(3)) % 1.0
    return Atoms(["Na", "Cl"] * pairs, positions=fraction @ cell, cell=cell, pbc=True)


@pytest.mark.parametrize(
    ("name", "neighbour", "formulas", "constant"),
    [
        ("rocksalt", 1 / 2, 4, 1.747564594633182),
        ("cesiumchloride", math.sqrt(3) / 2, 1, 1.762674773070988),
        ("zincblende", math.sqrt(3) / 4, 4, 1.638055053388789),
    ],
)
def test_madelung(name, neighbour, formulas, constant):
    crystal = bulk("NaCl", name, a=5.64, cubic=True)
    found = evaluate(Coulomb({"Na": 1.0, "Cl": -1.0}, cutoff=6.0, accuracy=1e-12), crystal)
    madelung = -found["energy"][0] / formulas * 5.64 * neighbour / COULOMB
    assert madelung == pytest.approx(constant, abs=1e-8)
    # a Coulomb crystal obeys the virial theorem: E = 3 p V, stress positive in tension
    trace = np.trace(found["stress"][0]) * crystal.get_volume()
    assert trace == pytest.approx(-found["energy"][0], rel=1e-8)


def test_gaussians_have_the_energy_of_their_fourier_sum():
    atoms = scattered(SKEW)
    width = {"Na": 1.1, "Cl": 0.8}
    charge = np.tile([1.0, -1.0], 5)
    wide = np.tile([1.1, 0.8], 5)
    steps = np.array(np.meshgrid(*[np.arange(-14, 15)] * 3)).reshape(3, -1).T
    vectors = 2 * np.pi * steps[np.any(steps != 0, axis=1)] @ np.linalg.inv(SKEW).T
    square = (vectors**2).sum(1)
    factor = np.exp(1j * vectors @ atoms.positions.T) * np.exp(-np.outer(square, wide**2) / 4)
    power = np.abs(factor @ charge) ** 2
    exact = 2 * np.pi * COULOMB / atoms.get_volume() * (power / square).sum()
    for cutoff in (7.0, 9.0):
        model = Coulomb({"Na": 1.0, "Cl": -1.0}, widths=width, cutoff=cutoff, accuracy=1e-12)
        assert evaluate(model, atoms)["energy"][0] == pytest.approx(exact, abs=1e-9)


def parry(atoms, charge, alpha=0.5, reach=24):
    """Energy (eV) of a neutral slab by the closed form of two-dimensional Ewald sums."""
    flat, r = atoms.cell.array[:2, :2], atoms.positions
    area = abs(np.linalg.det(flat))
    apart = r[:, None] - r[None]
    product = np.outer(charge, charge)
    images = np.array(np.meshgrid(np.arange(-7, 8), np.arange(-7, 8))).reshape(2, -1).T
    energy = -alpha / np.sqrt(np.pi) * (charge**2).sum()
    for image in images:
        shifted = apart.copy()
        shifted[..., :2] += image @ flat
        distance = np.linalg.norm(shifted, axis=2)
        if not image.any():
            np.fill_diagonal(distance, np.inf)
        energy += 0.5 * (product * erfc(alpha * distance) / distance).sum()
    z = apart[..., 2]
    kink = np.exp(-((alpha * z) ** 2)) / alpha + np.sqrt(np.pi) * z * erf(alpha * z)
    energy -= np.sqrt(np.pi) / area * (product * kink).sum()
    turned = 2 * np.pi * np.linalg.inv(flat).T
    for step in np.array(np.meshgrid(*[np.arange(-reach, reach + 1)] * 2)).reshape(2, -1).T:
        if not step.any() or np.linalg.norm(step @ turned) > 7.0:
            continue
        k = step @ turned
        h = np.linalg.norm(k)
        rise = sum(np.exp(s * h * z) * erfc(h / (2 * alpha) + s * alpha * z) for s in (1, -1))
        energy += np.pi / (2 * area * h) * (product * np.cos(apart[..., :2] @ k) * rise).sum()
    return COULOMB * energy


@pytest.mark.parametrize("tilt", [0.0, 3.0])
def test_slab_equals_parrys_sum(tilt):
    cell = np.array([[9.0, 0.0, 0.0], [tilt, 8.0, 0.0], [0.0, 0.0, 7.0]])
    atoms = scattered(cell)
    atoms.positions[::2, 2] *= 0.7  # a dipole along z
    exact = parry(atoms, np.tile([1.0, -1.0], 5))
    for height, cutoff in ((7.0, 6.0), (20.0, 8.0)):
        atoms.cell[2, 2] = height
        model = Coulomb({"Na": 1.0, "Cl": -1.0}, slab=True, cutoff=cutoff, accuracy=1e-12)
        found = evaluate(model, atoms)
        assert found["energy"][0] == pytest.approx(exact, abs=1e-8)
        assert "stress" not in found
    # with a net charge, the potential far away is that of its sheet, -2 pi |z| per area
    charge = np.tile([1.0, -0.4], 5)
    charged = model.energy(
        torch.tensor(atoms.positions)[None],
        torch.tensor(atoms.cell.array)[None],
        torch.tensor(charge)[None],
    )
    assert charged.item() == pytest.approx(parry(atoms, charge), abs=1e-7)


def test_two_charged_layers_are_a_capacitor():
    xy = np.array([(x, y) for x in range(4) for y in range(4)]) * 2.0
    energies = []
    for gap in (12.0, 15.0):
        position = np.vstack([np.c_[xy, np.zeros(16)], np.c_[xy, np.full(16, gap)]])
        atoms = Atoms(["Na"] * 16 + ["Cl"] * 16, positions=position, cell=(8.0, 8.0, 20.0))
        model = Coulomb({"Na": 0.1, "Cl": -0.1}, slab=True, cutoff=9.0, accuracy=1e-10)
        energies.append(evaluate(model, atoms)["energy"][0])
    # beyond a layer's roughness the energy rises by 2 pi k Q^2/A for each Å
    rise = 2 * np.pi * COULOMB * 1.6**2 / 64.0 * 3.0
    assert energies[1] - energies[0] == pytest.approx(rise, rel=1e-7)


@pytest.mark.parametrize("slab", [False, True])
def test_derivatives_are_those_of_the_energy(slab):
    cell = SKEW.copy()
    if slab:
        cell[2, :2] = 0.0
    atoms = scattered(cell)
    model = Coulomb(
        {"Na": 1.0, "Cl": -1.0}, widths={"Cl": 0.9}, slab=slab, cutoff=7.0, accuracy=1e-12
    )
    found = evaluate(model, atoms)
    step = 1e-4
    for atom, axis in ((0, 0), (3, 2), (8, 1)):
        energy = []
        for sign in (1, -1):
            moved = atoms.copy()
            moved.positions[atom, axis] += sign * step
            energy.append(evaluate(model, moved)["energy"][0])
        slope = (energy[0] - energy[1]) / (2 * step)
        assert found["forces"][atom, axis] == pytest.approx(-slope, abs=1e-6)
    assert np.abs(found["forces"].sum(0)).max() < 1e-8
    position = torch.tensor(atoms.positions)[None]
    charge = torch.tensor(np.tile([1.0, -1.0], 5))[None].requires_grad_(True)
    energy = model.energy(position, torch.tensor(cell)[None], charge)
    (potential,) = torch.autograd.grad(energy, charge)
    # a quadratic form: the potential at the charges gives twice the energy
    assert (potential * charge).sum().item() == pytest.approx(2 * energy.item(), rel=1e-12)
    if slab:
        return
    strain = np.array([[1.0, 0.3, 0.0], [0.3, -0.5, 0.2], [0.0, 0.2, 0.4]])
    energy = []
    for sign in (1, -1):
        bent = atoms.copy()
        bent.set_cell(cell @ (np.eye(3) + sign * step * strain), scale_atoms=True)
        energy.append(evaluate(model, bent)["energy"][0])
    slope = (energy[0] - energy[1]) / (2 * step * atoms.get_volume())
    assert (found["stress"][0] * strain).sum() == pytest.approx(slope, abs=1e-7)


def test_a_batch_gives_what_its_systems_give_alone():
    one, other = scattered(SKEW, seed=1), scattered(SKEW * [1.0, 1.1, 0.95], seed=2)
    model = Coulomb({"Na": 1.0, "Cl": -1.0}, cutoff=7.0)
    both, alone = evaluate(model, one, other), [evaluate(model, atoms) for atoms in (one, other)]
    for name in ("energy", "forces", "stress"):
        assert both[name] == pytest.approx(np.concatenate([a[name] for a in alone]), abs=1e-11)
    shifted = one.copy()
    shifted.positions[3] += 2 * SKEW[0] - SKEW[2]
    assert evaluate(model, shifted)["energy"] == pytest.approx(alone[0]["energy"], abs=1e-11)


@pytest.mark.parametrize("slab", [False, True])
def test_a_mesh_gives_what_plane_waves_give(slab):
    cell = 1.5 * SKEW
    if slab:
        cell[2, :2] = 0.0
    atoms = scattered(cell, pairs=20)
    charges = {"Na": 1.0, "Cl": -1.0}
    exact = evaluate(Coulomb(charges, slab=slab, cutoff=9.0, accuracy=1e-12), atoms)
    found = evaluate(Coulomb(charges, slab=slab, cutoff=9.0, accuracy=1e-7, spacing=0.7), atoms)
    assert found["forces"] == pytest.approx(exact["forces"], abs=1e-5)
    assert found["energy"] == pytest.approx(exact["energy"], rel=1e-6)
    if not slab:
        assert found["stress"] == pytest.approx(exact["stress"], abs=1e-6)


def test_both_ways_equal_torch_pme():
    torchpme = pytest.importorskip("torchpme")
    atoms = scattered(1.5 * SKEW, pairs=20)
    charges = {"Na": 1.0, "Cl": -1.0}
    calculator = torchpme.PMECalculator(
        torchpme.CoulombPotential(smearing=1.2), mesh_spacing=0.3, interpolation_nodes=7
    )
    calculator.to(dtype=torch.float64)
    position, cell = torch.tensor(atoms.positions), torch.tensor(atoms.cell.array)
    pairs = Pairs(8.0, skin=0.0, width=torch.zeros(40, dtype=torch.float64))
    near = pairs.of(position[None], cell[None])
    charge = torch.tensor(np.tile([1.0, -1.0], 20))[:, None]
    potential = calculator(
        charge,
        cell,
        position,
        torch.stack([near.one, near.other], 1),
        near.distance(position[None]),
    )
    peer = COULOMB * float((charge * potential).sum())
    for spacing in (None, 0.5):
        model = Coulomb(charges, cutoff=8.0, accuracy=1e-10, spacing=spacing)
        assert evaluate(model, atoms)["energy"][0] == pytest.approx(peer, rel=1e-6)


@pytest.mark.parametrize("split", [(0.5, 1.0), (1.3, 6.7), (3.0, 6.0), (5.9, 6.0), (7.0, 8.0)])
def test_short_and_long_range_make_up_the_whole_and_share_nothing(split):
    atoms = scattered(SKEW)
    charges, settings = {"Na": 1.0, "Cl": -1.0}, {"cutoff": 8.0, "accuracy": 1e-12}
    whole = evaluate(Coulomb(charges, **settings), atoms)
    long = Coulomb(charges, split=split, **settings)
    short = Coulomb(charges, split=split, part="short", **settings)
    both = evaluate(Sum([long, short]), atoms)
    for name in ("energy", "forces", "stress"):
        assert both[name] == pytest.approx(whole[name], abs=1e-9)
    # a pair nearer than the switch's begin is short range's alone, one beyond its end long range's
    for distance, share in ((0.9 * split[0], 1.0), (1.05 * split[1], 0.0)):
        pair = Atoms("NaCl", positions=[[0, 0, 0], [0, 0, distance]], cell=[60.0] * 3, pbc=True)
        near = evaluate(short, pair)["energy"][0]
        assert near == pytest.approx(-share * COULOMB / distance, abs=1e-12)


def test_stress_is_whole_after_an_energy_at_the_same_cell():
    """Waves kept from a cell without a graph must not be taken for those of a strained one."""
    atoms = scattered(SKEW)
    model = Coulomb({"Na": 1.0, "Cl": -1.0}, cutoff=6.0)
    fresh = evaluate(model, atoms)["stress"]
    state = state_of(atoms)
    charge = torch.tensor(np.tile([1.0, -1.0], 5))[None]
    model.energy(state.positions[None], state.row_vector_cell, charge)
    np.testing.assert_array_equal(evaluate(model, atoms)["stress"], fresh)


@pytest.mark.parametrize("part", ["short", "long"])
def test_the_force_of_either_part_is_continuous_with_its_second_derivative(part):
    """Across both ends of the switch: force, slope and curvature; not the third derivative."""
    split = (2.0, 3.0)
    model = Coulomb({}, cutoff=4.0, accuracy=1e-12, split=split, part=part)
    cell = torch.eye(3, dtype=torch.float64)[None] * 12.0
    charge = torch.tensor([[1.0, -1.0]], dtype=torch.float64)

    def derivatives(distance):
        r = torch.tensor(distance, dtype=torch.float64, requires_grad=True)
        place = torch.tensor([0.6, 0.0, 0.8], dtype=torch.float64)
        position = torch.stack([0 * place, r * place])[None]
        value, found = model.energy(position, cell, charge)[0], []
        for _ in range(4):
            (value,) = torch.autograd.grad(value, r, create_graph=True)
            found.append(float(value.detach()))
        return np.array(found)

    for end in split:
        near = 1e-6 * end
        jump = np.abs(derivatives(end + near) - derivatives(end - near))
        assert jump[0] < 1e-4 and jump[1] < 1e-3 and jump[2] < 1e-1
        assert jump[3] > 100.0


def test_the_switch_has_three_continuous_derivatives():
    x = torch.tensor([2.0, 3.0], dtype=torch.float64, requires_grad=True)
    for side in (-1e-6, 1e-6):
        value = switch(x + side, 2.0, 3.0)
        slopes = []
        value_of = value
        for _ in range(3):
            (value_of,) = torch.autograd.grad(value_of.sum(), x, create_graph=True)
            slopes.append(float(value_of.detach().abs().max()))
        assert value.tolist() == pytest.approx([1.0, 0.0], abs=1e-12)
        assert slopes[0] < 1e-12 and slopes[1] < 1e-8 and slopes[2] < 1e-2


def test_charges_that_follow_positions_push_as_well():
    atoms = scattered(SKEW)
    sign = torch.tensor(np.tile([1.0, -1.0], 5))

    def charges(state):
        height = state.positions[:, 2]
        bent = 0.2 * torch.sin(0.4 * height)
        return sign + bent - bent.mean()

    model = Coulomb(charges, cutoff=7.0, accuracy=1e-10)
    found = evaluate(model, atoms)
    energy = []
    for step in (1e-4, -1e-4):
        moved = atoms.copy()
        moved.positions[4, 2] += step
        energy.append(evaluate(model, moved)["energy"][0])
    slope = (energy[0] - energy[1]) / 2e-4
    assert found["forces"][4, 2] == pytest.approx(-slope, abs=1e-6)


@pytest.mark.parametrize("size", [1.0, 1.7])  # several images of a pair are near, or one is
def test_pairs_are_searched_seldom_and_never_missed(size):
    generator = torch.Generator().manual_seed(3)
    cell = torch.tensor(SKEW * size)[None].repeat(2, 1, 1)
    position = torch.rand(2, 30, 3, generator=generator, dtype=torch.float64) @ cell
    still = torch.arange(30) < 10
    width = still.to(torch.float64)
    kept = Pairs(5.0, skin=1.0, width=width, still=still)
    for _ in range(40):
        position = position + 0.03 * torch.randn(2, 30, 3, generator=generator)
        found = []
        fresh = Pairs(5.0, skin=0.0, width=width, still=still)
        fresh._nearest_images = fresh._all_images
        for pairs in (kept, fresh):
            near = pairs.of(position, cell)
            one, other, distance = near.one, near.other, near.distance(position)
            found.append(distance[distance < 5.0].sort().values)
            assert not (still.repeat(2)[one] & still.repeat(2)[other]).any()
            assert still.repeat(2)[other[near.mixed :]].all()
            assert not still.repeat(2)[one].any()
        assert torch.allclose(*found)
    assert 1 < kept.searches < 30


def test_walls_push_back_by_the_slope_of_their_energy():
    walls = Walls(low=1.0, high=9.0, elements=["Na"], energy=0.1, length=0.5)
    heights = np.array([0.5, 1.3, 5.0, 9.2])
    atoms = Atoms("Na2ClNa", positions=[(0, 0, z) for z in heights], cell=[20.0] * 3)
    found = evaluate(walls, atoms)
    felt = 0.1 * np.exp(-(heights - 1) / 0.5) + 0.1 * np.exp(-(9 - heights) / 0.5)
    assert found["energy"][0] == pytest.approx(felt[[0, 1, 3]].sum())
    for atom, force in enumerate(found["forces"][:, 2]):
        energy = []
        for step in (1e-5, -1e-5):
            moved = atoms.copy()
            moved.positions[atom, 2] += step
            energy.append(evaluate(walls, moved)["energy"][0])
        assert force == pytest.approx(-(energy[0] - energy[1]) / 2e-5, abs=1e-8)
    assert not found["forces"][2].any() and not found["forces"][:, :2].any()
    with pytest.raises(ValueError, match="the first must be the lower one"):
        Walls(low=2.0, high=1.0, elements=["Na"], energy=0.1, length=0.5)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"cutoff": -1.0}, "cutoff is -1.0 Å"),
        ({"accuracy": 1.0}, "accuracy is 1.0"),
        ({"part": "short"}, "with a split"),
        ({"spacing": 0.0}, "spacing is 0.0 Å"),
        ({"split": (5.0, 9.5)}, "within the cutoff"),
        ({"widths": {"Na": 0.0}}, "must be positive"),
    ],
)
def test_wrong_numbers_are_refused(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        Coulomb({"Na": 1.0, "Cl": -1.0}, **arguments)


def test_wrong_systems_are_refused():
    atoms = scattered(SKEW)
    with pytest.raises(ValueError, match=r"carries \+5 e, and nothing compensates"):
        evaluate(Coulomb({"Na": 1.0, "Cl": 0.0}), atoms)
    with pytest.raises(ValueError, match="no charge is given for Cl"):
        evaluate(Coulomb({"Na": 1.0}), atoms)
    with pytest.raises(ValueError, match="stand on the others along z"):
        evaluate(Coulomb({"Na": 1.0, "Cl": -1.0}, slab=True), atoms)
    with pytest.raises(ValueError, match="equal size"):
        evaluate(Coulomb({"Na": 1.0, "Cl": -1.0}), atoms, atoms[:2])
