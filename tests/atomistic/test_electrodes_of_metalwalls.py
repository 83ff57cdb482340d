"""Electrodes before liquid water against the charges that another program found for the frame."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch_sim as ts
from ase import Atoms
from scipy.constants import Avogadro, elementary_charge

from atomistic.electrostatics.electrodes import ConstantPotential, Electrode

UNIT = 1e3 / Avogadro / elementary_charge  # V, of a kJ mol-1 e-1
SQUARES = (0.50625, 0.225)  # Å2, of the Thomas-Fermi lengths of the two metals
DENSITY = 0.1  # Å-3


@pytest.fixture(scope="module")
def table():
    return np.loadtxt(Path(__file__).parent / "platinum_and_water.txt")


@pytest.mark.parametrize(
    ("solver", "spacing"),
    [("matrix", None), ("conjugate gradients", None), ("conjugate gradients", 0.3)],
)
@pytest.mark.parametrize("metal", ["perfect", "Thomas-Fermi"])
def test_water_between_platinum(table, metal, solver, spacing):
    given, expected = table[:, :3], table[:300, 3 if metal == "perfect" else 4]
    # electrodes lie across z here, and the water between them
    turned = given[:, [1, 2, 0]]
    turned[:, 2] = (turned[:, 2] - 15.0) % 30.0
    atoms = Atoms(["Pt"] * 300 + ["O", "H", "H"] * 222, turned, cell=(20, 20, 30), pbc=True)
    lengths = [0.0, 0.0] if metal == "perfect" else np.sqrt(SQUARES)
    sides = (given[:300, 0] < 15, given[:300, 0] > 15)
    electrodes = {
        name: Electrode(
            np.flatnonzero(side),
            width=width,
            thomas_fermi_length=length,
            atomic_density=DENSITY,
        )
        for name, side, width, length in zip(
            ("left", "right"), sides, (0.5, 1.0), lengths, strict=True
        )
    }
    model = ConstantPotential(
        atoms,
        electrodes,
        {"O": -0.8476, "H": 0.4238},
        potentials={"left": [100 * UNIT], "right": [200 * UNIT]},
        boundary="periodic",
        accuracy=1e-12,
        solver=solver,
        tolerance=1e-10,
        spacing=spacing,
    )
    if metal == "perfect":
        # the reference stands in a field along all axes: one more potential of each atom
        field = torch.tensor(given[:300] @ [100.0, 50.0, 25.0]) * UNIT / 10
        model.wanted = model.wanted + field[model.held]
    charge = model(ts.io.atoms_to_state([atoms], "cpu", torch.float64))["charges"][:300].numpy()
    assert np.abs(charge - expected).max() < 1e-9
