"""Energies in fields against theory: dipoles, a metal slab, images, work functions."""

import numpy as np
import pytest
import torch
from ase import Atoms
from scipy import constants
from scipy.optimize import brentq
from scipy.special import erfc
from torch_sim.models.interface import ModelInterface

from atomistic.electrostatics.electrodes import Electrode
from atomistic.electrostatics.ewald import COULOMB
from atomistic.observables.response import (
    adsorption_in_field,
    depolarisation,
    expansion,
    vibrations_in_field,
    work_function_shift,
)
from couplers.matching import dipole_potential

DEBYE = 3.33564e-30
CHARGE = constants.elementary_charge
FIELDS = np.linspace(-2e9, 2e9, 5)


def close(value, *, rel=1e-6):
    """Compare numbers of any size: pytest's own absolute tolerance passes all that is tiny."""
    return pytest.approx(value, rel=rel, abs=0.0)


def ideal(spacing):
    """Width (Å) at which a square lattice of Gaussians is an ideal plane of metal."""
    steps = np.arange(-40, 41)
    k = 2 * np.pi / spacing * np.hypot(*np.meshgrid(steps, steps)).ravel()
    k = k[k > 0]
    return brentq(
        lambda w: (2 * np.pi / k * erfc(k * w / np.sqrt(2))).sum() - 2 * np.sqrt(2 * np.pi) * w,
        0.1 * spacing,
        0.5 * spacing,
    )


def slab(height=None, *, number=6, spacing=2.5, thickness=6.0, tilt=0.0):
    """A metal of two ideal planes, with a molecule of two charges above it."""
    steps = np.arange(number) * spacing
    plane = np.array([(x, y) for x in steps for y in steps])
    layers = [np.c_[plane, np.full(len(plane), z)] for z in (0.0, thickness)]
    atoms = Atoms(
        ["Pt"] * (2 * len(plane)),
        positions=np.vstack(layers),
        cell=(number * spacing, number * spacing, thickness + 14.0),
        pbc=(True, True, False),
    )
    if height is not None:
        foot = [6.0, 6.5, thickness + height]
        atoms += Atoms("OH", positions=[foot, np.add(foot, [tilt, 0.0, 1.0])])
    return atoms, Electrode(range(2 * len(plane)), width=ideal(spacing))


def test_expansion_finds_what_was_put_in():
    field = FIELDS * 1e-10
    energy = 0.3 - 0.4 * field - 0.5 * 2.5 * field**2
    found = expansion(energy, FIELDS)
    assert float(found["energy"]) == pytest.approx(0.3)
    assert float(found["dipole_moment"]) == close(0.4 * CHARGE * 1e-10)
    assert float(found["polarisability"]) == close(2.5 * CHARGE * 1e-20)
    rng = np.random.default_rng(0)
    hits = []
    for _ in range(200):
        one = expansion(energy + 1e-3 * rng.standard_normal(5), FIELDS, error=1e-3)
        off = float(one["dipole_moment"]) - 0.4 * CHARGE * 1e-10
        hits.append(abs(off) < float(one["dipole_moment_std"]))
    assert 0.58 < np.mean(hits) < 0.78
    with pytest.raises(ValueError, match="three fields or more"):
        expansion([0.0, 1.0], [0.0, 1e9])


def test_a_neutral_adsorbate_far_from_the_metal_feels_nothing():
    atoms, metal = slab(6.5, tilt=0.4)
    found = adsorption_in_field(atoms, metal, {"O": -0.4, "H": 0.4}, fields=FIELDS)
    # what is left is the attraction of a dipole by its image
    assert abs(float(found["energy"])) < 0.01
    assert abs(float(found["dipole_moment"])) < 0.02 * DEBYE
    assert abs(float(found["polarisability"])) < 1e-42


def test_the_dipole_is_the_slope_of_the_energy():
    atoms, metal = slab(2.5, tilt=0.3)
    found = adsorption_in_field(atoms, metal, {"O": -0.4, "H": 0.4}, fields=FIELDS)
    bare, _ = slab()
    # of all charges: the metal's share, thickness times area, and the molecule's own
    dipole = found["dipole_moment_in_field"].values
    slope = np.gradient(dipole, FIELDS)[2]
    area = 15.0**2 * 1e-20
    assert slope == close(constants.epsilon_0 * area * 6e-10, rel=1e-3)
    own = 0.4 * CHARGE * 1e-10
    assert dipole[2] == close(own, rel=2e-2)
    assert float(found["energy"]) < 0
    shift = work_function_shift(dipole[2], area=area)
    assert shift == pytest.approx(
        dipole_potential(1.0, dipole_moment=dipole[2], site_density=1 / area)
    )
    assert shift < 0
    assert len(bare) == 72


def test_adsorption_answers_to_a_field_by_the_dipole_that_it_makes():
    # so near that the metal is lumpy, and the molecule lies over a hollow
    atoms, metal = slab(1.3, tilt=0.5)
    found = adsorption_in_field(atoms, metal, {"O": -0.4, "H": 0.4}, fields=FIELDS)
    made = found["dipole_moment_in_field"].values[2] - 0.4 * CHARGE * 1e-10
    assert abs(made) > 0.001 * DEBYE
    slope = -np.gradient(found["adsorption_energy"].values, FIELDS)[2] * constants.e
    assert slope == close(made, rel=1e-6)
    assert float(found["dipole_moment"]) == close(made, rel=1e-4)


def test_charged_adsorbates_are_refused():
    atoms, metal = slab(3.0)
    with pytest.raises(ValueError, match=r"the adsorbate carries \+0.2 e"):
        adsorption_in_field(atoms, metal, {"O": -0.4, "H": 0.6}, fields=FIELDS)


@pytest.mark.parametrize("coverage", [[0.1, 0.4], [0.0, 0.1, 0.3, 0.6, 1.0]])
def test_dipoles_of_a_layer_are_found_from_its_work_functions(coverage):
    given = {"dipole_moment": 1.2 * DEBYE, "polarisability": 3e-40}
    shift = [dipole_potential(one, **given, site_density=1e19) for one in coverage]
    found = depolarisation(coverage, shift, site_density=1e19)
    for name, value in given.items():
        assert float(found[name]) == close(value, rel=1e-5)
    with pytest.raises(ValueError, match="two coverages or more"):
        depolarisation([0.0, 0.5], [0.0, -1.0], site_density=1e19)


DEPTH, STEEP, REST, TETHER = 5.0, 2.2, 1.0, 8.0  # eV, Å-1, Å, eV Å-2


class Bond(ModelInterface):
    """A Morse bond of the last two atoms, the lower one tethered where it stood, both to a line."""

    def __init__(self, foot):
        super().__init__()
        self._device, self._dtype = torch.device("cpu"), torch.float64
        self._compute_forces, self._compute_stress = True, False
        self.foot = torch.tensor(foot, dtype=torch.float64)

    def forward(self, state, **kwargs):
        given = state.positions.detach().reshape(state.n_systems, -1, 3)
        last = given[:, -2:].clone().requires_grad_(True)
        away = last - self.foot
        bond = (last[:, 1] - last[:, 0]).norm(dim=1)
        energy = DEPTH * (1 - torch.exp(-STEEP * (bond - REST))).square()
        energy = energy + 0.5 * TETHER * (away[:, 0, 2] ** 2 + away[..., :2].square().sum((1, 2)))
        forces = torch.zeros_like(given)
        forces[:, -2:] = -torch.autograd.grad(energy.sum(), last)[0]
        return {"energy": energy.detach(), "forces": forces.reshape(-1, 3)}


@pytest.mark.parametrize("charge", [0.1, -0.1])
def test_a_bond_is_tuned_by_the_field_that_stretches_it(charge):
    atoms, metal = slab(6.5)
    atoms.positions[-1, 2] += 0.02  # not yet at rest
    weights = atoms.get_masses()[-2:]
    found = vibrations_in_field(
        atoms,
        metal,
        {"O": -charge, "H": charge},
        fields=FIELDS,
        moving=[72, 73],
        short_range=Bond(atoms.positions[-2]),
    )
    expected = []
    for strength in FIELDS * 1e-10:

        def pull(r, strength=strength):
            rise = np.exp(-STEEP * (r - REST))
            morse = 2 * DEPTH * STEEP * (1 - rise) * rise
            return morse + COULOMB * charge**2 / r**2 - charge * strength

        r = brentq(pull, REST - 0.2, REST + 0.2)
        rise = np.exp(-STEEP * (r - REST))
        curve = 2 * DEPTH * STEEP**2 * (2 * rise**2 - rise) - 2 * COULOMB * charge**2 / r**3
        hessian = np.array([[TETHER + curve, -curve], [-curve, curve]])
        value = np.linalg.eigvalsh(hessian / np.sqrt(np.outer(weights, weights)))
        square = value * CHARGE / 1e-20 / constants.atomic_mass
        expected.append(np.sqrt(square) / (2 * np.pi * constants.c))
    expected = np.array(expected)
    stretch = found["wavenumber"].values[:, -1]
    assert stretch == close(expected[:, -1], rel=1e-4)
    assert np.ptp(stretch) > 5e2  # m-1
    rate = np.polyfit(FIELDS, expected[:, -1], 2)[1]
    assert rate * charge < 0  # a field that stretches a bond softens it
    assert float(found["stark_tuning_rate"][-1]) == close(rate, rel=0.02)
    moment = -constants.h * constants.c * rate
    assert float(found["dipole_moment_difference"][-1]) == close(moment, rel=0.02)
    shape = found["displacement"].values[-1]
    assert abs(shape[1, 2]) > 0.9
    assert np.abs(shape[:, :2]).max() < 1e-3
    assert len(found["mode"]) == 6


def test_atoms_that_cannot_vibrate_are_refused():
    atoms, metal = slab(3.0)
    for moving in ([], [0], [99]):
        with pytest.raises(ValueError, match="name one atom or more of the adsorbate"):
            vibrations_in_field(
                atoms,
                metal,
                {"O": -0.4, "H": 0.4},
                fields=FIELDS,
                moving=moving,
                short_range=Bond(atoms.positions[-2]),
            )
