"""Gaussian approximation potentials, where quippy-ase is installed: fitted here, then loaded."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch_sim as ts
from ase.build import bulk
from ase.io import write

from atomistic.learning.distil import label
from atomistic.potentials.certificate import certify
from atomistic.potentials.ionic import sodium_chloride
from atomistic.potentials.load import load

pytest.importorskip("quippy", reason="quippy-ase has licences of its own; nothing depends on it")

TERMS = (
    "{distance_2b cutoff=5.0 covariance_type=ard_se delta=1.0 theta_uniform=1.0 "
    "sparse_method=uniform n_sparse=15 add_species=T : soap l_max=3 n_max=4 cutoff=4.5 "
    "cutoff_transition_width=0.8 atom_sigma=0.6 delta=0.3 covariance_type=dot_product zeta=4 "
    "n_sparse=40 sparse_method=cur_points add_species=T}"
)


def crystal(seed):
    atoms = bulk("NaCl", "rocksalt", a=5.7, cubic=True).repeat(2)
    atoms.rattle(0.25, seed=seed)
    return atoms


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """A potential fitted to the ions of Fumi and Tosi."""
    folder = tmp_path_factory.mktemp("gap")
    labelled = label([crystal(seed) for seed in range(12)], sodium_chloride(cutoff=5.6))
    for frame in labelled:
        frame.info["reference_energy"] = frame.get_potential_energy()
        frame.new_array("reference_force", frame.get_forces())
        frame.calc = None
    write(folder / "train.xyz", labelled)
    program = shutil.which("gap_fit", path=str(Path(sys.executable).parent))
    settings = {
        "atoms_filename": "train.xyz", "gap": TERMS, "e0_method": "average",
        "default_sigma": "{0.001 0.02 0.0 0.0}", "energy_parameter_name": "reference_energy",
        "force_parameter_name": "reference_force", "do_copy_at_file": "F", "gp_file": "salt.xml",
    }  # fmt: skip
    subprocess.run(
        [program, *(f"{name}={value}" for name, value in settings.items())],
        cwd=folder, check=True, capture_output=True,
    )  # fmt: skip
    return folder / "salt.xml"


def test_file_says_elements_and_cutoff(fitted):
    potential = load(str(fitted), device="cpu")
    assert potential.species == ("Na", "Cl")
    assert potential.cutoff == 5.0
    assert potential.precision == "float64"
    with pytest.raises(ValueError, match="knows only Na, Cl"):
        potential.check_elements([bulk("LiCl", "rocksalt", a=5.1)])


def test_forces_are_those_it_was_fitted_to(fitted):
    potential, oracle = load(str(fitted), device="cpu"), sodium_chloride(cutoff=5.6)
    fresh = [crystal(100), crystal(101)]
    state = ts.io.atoms_to_state(fresh, torch.device("cpu"), torch.float64)
    forces, expected = potential.model(state)["forces"], oracle.model(state)["forces"]
    assert float((forces - expected).square().mean().sqrt()) < 0.3 * float(expected.std())


def test_batch_equals_its_own_calculator(fitted):
    from quippy.potential import Potential

    potential, fresh = load(str(fitted), device="cpu"), crystal(7)
    results = potential.model(ts.io.atoms_to_state([crystal(6), fresh], "cpu", torch.float64))
    fresh.calc = Potential(param_filename=str(fitted))
    assert float(results["energy"][1]) == pytest.approx(fresh.get_potential_energy(), abs=1e-9)
    np.testing.assert_allclose(results["forces"][64:], fresh.get_forces(), atol=1e-9)
    np.testing.assert_allclose(results["stress"][1], fresh.get_stress(voigt=False), atol=1e-9)


def test_forces_are_a_gradient(fitted):
    certificate = certify(
        load(str(fitted), device="cpu"),
        crystal(3),
        only=["inversion", "permutation", "force_is_gradient", "stress_is_strain_derivative"],
    )
    assert certificate.sound, certificate.outcome
