"""MACE checkpoints, in an environment of their own: `make test-mace`."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch_sim as ts
from ase.build import bulk

from atomistic.potentials.certificate import certify
from atomistic.potentials.load import load

pytest.importorskip("mace", reason="mace-torch cannot share an environment with sevenn")
pytestmark = [
    # e3nn 0.4.4 annotates in a way that TorchScript of today passes over
    pytest.mark.filterwarnings("ignore:The TorchScript type system:UserWarning"),
    # mace-torch 0.3.16 loads e3nn's constants so, on purpose
    pytest.mark.filterwarnings("ignore:Environment variable TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"),
]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A small untrained network: nothing here depends on what it has learnt."""
    from mace import modules  # before e3nn, whose constants it makes torch load

    from e3nn import o3  # isort: skip

    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    block = modules.interaction_classes["RealAgnosticResidualInteractionBlock"]
    network = modules.ScaleShiftMACE(
        r_max=5.0,
        num_bessel=6,
        num_polynomial_cutoff=6,
        max_ell=2,
        interaction_cls=block,
        interaction_cls_first=block,
        num_interactions=2,
        num_elements=2,
        hidden_irreps=o3.Irreps("8x0e + 8x1o"),
        MLP_irreps=o3.Irreps("8x0e"),
        atomic_energies=np.array([[-1.0, -2.0]]),
        avg_num_neighbors=12,
        atomic_numbers=[11, 17],
        correlation=2,
        gate=torch.nn.functional.silu,
        radial_MLP=[16, 16],
        atomic_inter_scale=1.0,
        atomic_inter_shift=0.0,
    )
    torch.set_default_dtype(torch.float32)
    path = tmp_path_factory.mktemp("mace") / "tiny.model"
    torch.save(network, path)
    return path


@pytest.fixture
def crystal():
    atoms = bulk("NaCl", "rocksalt", a=5.6, cubic=True)
    atoms.rattle(0.1, seed=1)
    return atoms


def test_a_checkpoint_says_what_it_is_and_agrees_with_its_own_calculator(checkpoint, crystal):
    from mace.calculators import MACECalculator

    potential = load(str(checkpoint), device="cpu")
    assert potential.species == ("Na", "Cl") and potential.cutoff == 5.0
    state = ts.io.atoms_to_state([crystal], device=torch.device("cpu"), dtype=torch.float64)
    out = potential.model(state)
    crystal.calc = MACECalculator(str(checkpoint), device="cpu", default_dtype="float64")
    assert float(out["energy"]) == pytest.approx(crystal.get_potential_energy(), rel=1e-12)
    np.testing.assert_allclose(out["forces"].detach(), crystal.get_forces(), atol=1e-12)
    stress = crystal.get_stress(voigt=False)
    np.testing.assert_allclose(out["stress"][0].detach(), stress, atol=1e-12)


def test_an_equivariant_network_keeps_every_symmetry(checkpoint, crystal):
    certificate = certify(load(str(checkpoint), device="cpu"), crystal)
    faults = {fault.name for fault in certificate.faults}
    # nobody taught it to repel
    assert faults <= {"fusion_well", "compression"}
