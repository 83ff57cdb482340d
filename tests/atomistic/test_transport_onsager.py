"""Onsager matrices: frames exact to rounding, Newman's mapping, and a posterior that covers."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import constants

from atomistic.observables.onsager import (
    from_solvent_frame,
    ionic_conductivity,
    onsager,
    salt_diffusion,
    to_solvent_frame,
    transference,
)
from atomistic.observables.transport import transport
from atomistic.schema import TRANSPORT
from atomistic.units import mass
from tests.atomistic.synthetic import (
    ANGSTROM,
    assert_covers,
    binary_salt,
    brownian,
    inside,
    trajectory,
)

RT = constants.R * 298.15
FARADAY = constants.Avogadro * constants.e
CHARGE = np.array([1.0, -1.0])
# LiPF6 in EC:EMC 3:7, 1 M: Landesfeind and Gasteiger, https://doi.org/10.1149/2.0571912jes
PUBLISHED = {"conductivity": 0.9130, "diffusivity": 2.892e-10, "transference": 0.221, "factor": 2.0}
MOLAR = np.array([6.94e-3, 144.96e-3])
DENSITY = 1200.0


def newman_matrix(conductivity, diffusivity, transference, factor, concentration=1000.0):
    """Solvent-frame matrix of a 1:1 salt with the given properties."""
    spread = conductivity / FARADAY**2
    area = diffusivity * concentration / (2 * RT * factor)
    cross = area - transference * (1 - transference) * spread
    return np.array(
        [[cross + transference * spread, cross], [cross, cross + (1 - transference) * spread]]
    )


def test_newman_mapping_closes_and_frames_are_exact():
    matrix = newman_matrix(**PUBLISHED)
    concentration, weight = np.array([1000.0, 1000.0]), MOLAR / DENSITY
    assert np.linalg.eigvalsh(matrix).min() > 0
    moved = from_solvent_frame(matrix, concentration, weight)
    back = to_solvent_frame(moved, concentration, weight)
    np.testing.assert_allclose(back, matrix, rtol=1e-12)
    for each in (matrix, moved):  # conductivity belongs to no frame
        assert ionic_conductivity(each, CHARGE) == pytest.approx(0.9130, rel=1e-12)
    assert transference(back, CHARGE)[0] == pytest.approx(0.221, rel=1e-12)
    shift = 1000.0 / DENSITY * (MOLAR[0] * 0.221 - MOLAR[1] * (1 - 0.221))
    assert transference(moved, CHARGE)[0] == pytest.approx(0.221 - shift, rel=1e-12)
    assert round(transference(moved, CHARGE)[0], 3) == 0.314
    assert salt_diffusion(back, 1000.0, 298.15, 2.0) == pytest.approx(2.892e-10, rel=1e-12, abs=0)
    volumes = np.array([-5e-6, 65e-6])
    through = from_solvent_frame(matrix, concentration, volumes)
    np.testing.assert_allclose(
        salt_diffusion(to_solvent_frame(through, concentration, volumes), 1000.0, 298.15, 2.0),
        2.892e-10,
        rtol=1e-12,
    )


def test_matrix_is_that_of_stefan_and_maxwell():
    """Solvent-frame matrix from friction coefficients against Newman's closed forms."""
    molar, ions = np.array([1000.0, 1000.0, 10700.0]), slice(0, 2)
    whole = molar.sum()
    pair = {(0, 1): 5e-11, (0, 2): 1.5e-10, (1, 2): 4.5e-10}
    friction = np.zeros((3, 3))
    for (one, other), diffusivity in pair.items():
        value = RT * molar[one] * molar[other] / (whole * diffusivity)
        friction[one, other] = friction[other, one] = value
    friction -= np.diag(friction.sum(1))
    matrix = -np.diag(molar[ions]) @ np.linalg.inv(friction[ions, ions]) @ np.diag(molar[ions])
    share = 1.5e-10 / (1.5e-10 + 4.5e-10)
    assert transference(matrix, CHARGE)[0] == pytest.approx(share, rel=1e-12)
    resistance = RT / (whole * FARADAY**2) * (1 / 5e-11 + 10700 * (1 - share) / (1000 * 4.5e-10))
    assert ionic_conductivity(matrix, CHARGE) == pytest.approx(1 / resistance, rel=1e-12)
    script = 2 * 1.5e-10 * 4.5e-10 / (1.5e-10 + 4.5e-10)
    found = salt_diffusion(matrix, 1000.0, 298.15, 1.0) * 10700.0 / whole
    assert found == pytest.approx(script, rel=1e-12, abs=0)


@pytest.mark.parametrize(("anion", "expected"), [("Cl", 0.6066), ("F", 0.4525)])
def test_two_ion_melt_has_the_transference_number_of_its_masses(anion, expected):
    rng = np.random.default_rng(0)
    position = brownian(rng, (4, 400, 16), diffusivity=0.5)
    data = trajectory([position], symbols=["Na"] * 8 + [anion] * 8, temperatures=[1100.0])
    found = onsager(data, charges={"Na": 1, anion: -1})
    exact = mass(anion) / (mass("Na") + mass(anion))
    assert found["transference_number"].item() == pytest.approx(exact, abs=1e-9)
    assert np.ptp(found["transference_number_draw"].values) < 1e-9
    assert exact == pytest.approx(expected, abs=1e-4)
    assert found.attrs["frame"] == "mass"
    identity = FARADAY**2 * np.einsum("i,cij,j->c", CHARGE, found["onsager"].values, CHARGE)
    np.testing.assert_allclose(found["conductivity"].values, identity, rtol=1e-12)


def test_joint_posterior_covers_in_the_frame_of_the_solvent():
    """The solvent rests in the walkers' own frame, so their matrix is the solvent-frame truth."""
    rng = np.random.default_rng(1)
    pairs, length, temperature = 16, 20 * ANGSTROM, 400.0
    unit = pairs / (length**3 * constants.k * temperature * constants.Avogadro**2) * 1e-8
    cross = 0.4 * np.sqrt(0.3 * 0.6)
    spread = 0.3 + 0.6 - 2 * cross
    concentration = pairs / length**3 / constants.Avogadro
    truth = {
        "conductivity": FARADAY**2 * unit * spread,
        "transference_number": (0.3 - cross) / spread,
        "salt_diffusivity": 2 * constants.R * temperature / concentration * unit
        * (0.3 * 0.6 - cross**2) / spread,
    }  # fmt: skip
    hits = {name: [] for name in truth}
    off = {name: [] for name in truth}
    for repeat in range(60):
        ions = binary_salt(rng, (4, 400, pairs), cation=0.3, anion=0.6)
        position = np.concatenate([ions, np.zeros_like(ions[:, :, :8])], axis=2)
        data = trajectory(
            [position],
            symbols=["Li"] * pairs + ["Cl"] * pairs + ["Ar"] * 8,
            temperatures=[temperature],
        )
        found = onsager(data, charges={"Li": 1, "Cl": -1}, thermodynamic_factor=1.0, seed=repeat)
        assert found.attrs["frame"] == "solvent"
        if not np.isfinite(found["conductivity"].item()):
            continue
        for name, true in truth.items():
            hits[name].append(inside(found[f"{name}_draw"].values.ravel(), true))
            off[name].append(found[name].item() / true - 1)
    for name, found in hits.items():
        assert len(found) >= 50
        for within, nominal in zip(np.transpose(found), (0.68, 0.95), strict=True):
            assert_covers(within, nominal)
        assert abs(np.mean(off[name])) < 0.02 + 3.5 * np.std(off[name]) / np.sqrt(len(off[name]))
        assert np.sqrt(np.mean(np.square(off[name]))) < 0.13, name


def test_transport_of_a_liquid_carries_the_joint_posterior():
    rng = np.random.default_rng(3)
    ions = binary_salt(rng, (4, 300, 16), cation=0.3, anion=0.6)
    position = np.concatenate([ions, np.zeros_like(ions[:, :, :8])], axis=2)
    symbols = ["Li"] * 16 + ["Cl"] * 16 + ["Ar"] * 8
    data = trajectory([position] * 2, symbols=symbols, temperatures=[400.0, 500.0])
    found = transport(
        data, charges={"Li": 1, "Cl": -1, "Ar": 0}, mobile=["Li", "Cl", "Ar"], draws=150
    )
    assert found.attrs["frame"] == "solvent"
    assert found["species"].values.tolist() == ["Li", "Cl"]
    for name in ("onsager", "transference_number"):
        rule = TRANSPORT["variables"][name]
        assert found[name].dims == rule["dims"]
        assert found[name].attrs["units"] == rule["units"]
        assert found[f"{name}_draw"].dims == (*rule["dims"], "draw")
    charge = found["charge_number"].values
    identity = FARADAY**2 * np.einsum("i,cijd,j->cd", charge, found["onsager_draw"], charge)
    np.testing.assert_allclose(found["conductivity_draw"].values, identity, rtol=1e-10)


@pytest.mark.parametrize(
    ("charges", "options", "said"),
    [
        ({"Li": 1}, {}, "a cation and an anion"),
        ({"Li": 1, "Cl": -2}, {"thermodynamic_factor": 1.0}, "neutral.*1:1 salt only"),
        ({"Li": 1, "Cl": -1}, {"molar_mass": {"Cl": 9.0}}, "ions weigh"),
        ({"Li": 1, "K": -1}, {}, "'K' is not in it"),
    ],
)
def test_bad_input_gets_one_sentence(charges, options, said):
    position = brownian(np.random.default_rng(2), (1, 100, 12))
    data = trajectory(
        [position], symbols=["Li"] * 4 + ["Cl"] * 4 + ["Ar"] * 4, temperatures=[300.0]
    )
    with pytest.raises(ValueError, match=said):
        onsager(data, charges=charges, **options)
