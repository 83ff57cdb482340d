"""Molecules and a melt in a field: dipoles, polarisabilities and charges that are learnt.

Two oracles say what is right. Polarisable molecules (charges and induced dipoles, damped and
solved for) give exact dipole moments and polarisabilities; a network learns them from one, two and
three molecules and is asked about a group it has never seen. Molten NaCl of Born, Mayer and
Huggins has charges of one; a network learns them from energies and forces alone, with Ewald's sum
as a part of it, and its forces are held against those of a network that sees no further than its
cutoff.

    python study.py          # about a minute on one core; numbers go to field_response.json
    python study.py --xtb    # also dipole moments of GFN2-xTB, which needs: pip install tblite

Recorded in `field_response.json`. With GFN2-xTB the network learns 58 small molecules of C, F, H,
N and O and is asked about 15 others, each with another chemistry: so few leave an error of two
fifths of the moment.
"""

import importlib.util
import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
import torch_sim as ts
from ase import Atoms
from ase.build import bulk
from ase.collections import g2

from atomistic.electrostatics.induced import InducedDipoles
from atomistic.learning.charged import ChargedNetwork, as_potential, fit_charged
from atomistic.learning.descriptors import SymmetryFunctions
from atomistic.learning.distil import errors, label
from atomistic.learning.networks import AtomNetwork, Layout
from atomistic.learning.networks import as_potential as short_potential
from atomistic.learning.response import (
    ResponseLayout,
    ResponseNetwork,
    fit_response,
    response_errors,
)
from atomistic.learning.training import Settings, fit
from atomistic.potentials.field import UniformField, field_ramp
from atomistic.potentials.ionic import sodium_chloride
from atomistic.systems import cluster

CHARGES = {"H": 0.3, "O": -0.6, "N": -0.9}
VOLUMES = {"H": 0.1, "O": 0.4, "N": 0.5}  # Å3
MOST = {"H": 0.2, "O": 0.6, "N": 0.6}  # e Å
ORACLE = InducedDipoles(CHARGES, VOLUMES)
SHAPE = SymmetryFunctions(cutoff=5.0, radial=8, shells=1, powers=(1, 2), nearest=0.7)
SEEN = (
    ("H2O",), ("NH3",), ("H2O", "H2O"), ("H2O", "NH3"), ("NH3", "NH3"),
    ("H2O", "H2O", "H2O"), ("H2O", "NH3", "NH3"), ("NH3", "NH3", "NH3"),
)  # fmt: skip
UNSEEN = ("H2O", "NH3", "H2O")


def batch(frames: list[Atoms]) -> ts.SimState:
    """Frames as a state."""
    return ts.io.atoms_to_state(frames, torch.device("cpu"), torch.float64)


def molecules(copies: int = 40, steps: int = 600) -> dict[str, float]:
    """Learn dipoles and polarisabilities; ask about a group never seen, at rest and in a field."""
    rng = np.random.default_rng(0)
    frames = [cluster(names, rng) for names in SEEN for _ in range(copies)]
    moments, tensors = (each.numpy() for each in ORACLE.respond(batch(frames)))
    layout = ResponseLayout(("H", "N", "O"), descriptor=SHAPE, channels=2, neurons=16)
    network = ResponseNetwork(layout)
    fit_response(network, frames, moments, tensors, steps=steps, learning_rate=2e-2)
    others = [cluster(UNSEEN, rng) for _ in range(40)]
    found = response_errors(
        network, others, *(each.numpy() for each in ORACLE.respond(batch(others)))
    )
    field = (0.0, 0.0, 0.5)  # V/Å
    learnt = UniformField(field, network)(batch(others))
    exact = UniformField(field, ORACLE.respond)(batch(others))
    off = (learnt["forces"] - exact["forces"]).square().mean().sqrt()
    one = others[0]
    ramps = [
        field_ramp(
            lambda at, most=most: InducedDipoles(CHARGES, VOLUMES, saturation=most, field=at),
            one,
            strengths=(0.0, 0.01, 1.0, 10.0, 30.0),
        )
        for most in (None, MOST)
    ]
    return {
        "structures": len(frames),
        "dipole_error_e_angstrom": found.dipole,
        "dipole_error_relative": found.relative_dipole,
        "polarisability_error_relative_to_spread": found.relative_polarisability,
        "force_in_field_error_relative": float(off / exact["forces"].square().mean().sqrt()),
        "response_at_30_V_per_angstrom_linear": ramps[0].response[-1] / ramps[0].response[0],
        "response_at_30_V_per_angstrom_saturating": ramps[1].response[-1] / ramps[1].response[0],
    }


def melt(frames: int = 24, steps: int = 120) -> dict[str, float]:
    """Learn charges from energies and forces of salt, and compare with a network without any."""
    oracle = sodium_chloride(cutoff=6.0)
    rng = np.random.default_rng(0)

    def shaken(count: int) -> list[Atoms]:
        found = []
        for _ in range(count):
            atoms = bulk("NaCl", "rocksalt", a=6.3, cubic=True) * (2, 2, 2)
            atoms.positions += rng.uniform(-0.4, 0.4, size=atoms.positions.shape)
            found.append(atoms)
        return label(found, oracle)

    learn, judge, test = shaken(frames), shaken(4), shaken(8)
    shape = SymmetryFunctions(cutoff=4.4, radial=8, shells=1, powers=(1,), nearest=1.8)
    layout = Layout(("Cl", "Na"), shape, neurons=(8,))
    settings = Settings(steps=steps, batch=4, look=20, learning_rate=(1e-2, 1e-4))
    alone = AtomNetwork(layout)
    fit(alone, learn, judge, settings=Settings(steps=2 * steps, batch=4, look=20))
    charged = ChargedNetwork(layout, {"Cl": -0.4, "Na": 0.4}, cutoff=6.0)
    fit_charged(charged, learn, judge, settings=settings, warm_up=steps)
    charge = charged(batch(test))["charges"].reshape(len(test), -1)
    return {
        "sodium_charge_e": float(charge[:, test[0].symbols == "Na"].mean()),
        "force_error_short_range": errors(test, short_potential(alone)).relative_force,
        "force_error_with_charges": errors(test, as_potential(charged)).relative_force,
    }


def xtb(conformers: int = 4) -> dict[str, float]:
    """Learn dipole moments of GFN2-xTB; ask about molecules never seen."""
    if importlib.util.find_spec("tblite") is None:
        raise ImportError("Dipole moments of GFN2-xTB need tblite: pip install tblite")
    from tblite.ase import TBLite

    rng = np.random.default_rng(0)
    names = [
        name
        for name in g2.names
        if set(g2[name].symbols) <= set("CFHNO")
        and len(g2[name]) > 1
        and not g2[name].numbers.sum() % 2
        and not g2[name].get_initial_magnetic_moments().any()
    ]
    names.sort()
    rng.shuffle(names)
    frames: dict[str, list[Atoms]] = {}
    for name in names:
        frames[name] = []
        for number in range(conformers):
            atoms = Atoms(g2[name].symbols, g2[name].positions)
            atoms.rattle(0.06 * (number > 0), rng=rng)
            atoms.calc = TBLite(method="GFN2-xTB", verbosity=0)
            atoms.info["dipole"] = atoms.get_dipole_moment()
            atoms.calc = None
            frames[name].append(atoms)
    learn = [one for name in names[15:] for one in frames[name]]
    test = [one for name in names[:15] for one in frames[name]]
    shape = SymmetryFunctions(cutoff=4.0, radial=6, shells=2, powers=(1, 2), nearest=0.7)
    network = ResponseNetwork(ResponseLayout(tuple("CFHNO"), descriptor=shape, neurons=16))
    moments = [np.array([one.info["dipole"] for one in some]) for some in (learn, test)]
    fit_response(network, learn, moments[0], steps=600, decay=1e-2)
    found = response_errors(network, test, moments[1])
    return {
        "molecules_learnt": len(names) - 15,
        "molecules_held_out": 15,
        "dipole_error_e_angstrom": found.dipole,
        "dipole_error_relative": found.relative_dipole,
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    started = time.process_time()
    numbers = {"molecules": molecules(), "melt": melt()}
    if "--xtb" in sys.argv:
        numbers["gfn2_xtb"] = xtb()
    numbers = {
        part: {name: round(value, 4) for name, value in found.items()}
        for part, found in numbers.items()
    }
    numbers["cpu_seconds"] = round(time.process_time() - started)
    Path(__file__).with_name("field_response.json").write_text(json.dumps(numbers, indent=1) + "\n")
    print(json.dumps(numbers, indent=1))
