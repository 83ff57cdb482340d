"""NequIP, where it is installed: a small network trained and compiled here, then loaded."""

from __future__ import annotations

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

pytest.importorskip("nequip", reason="nequip is not installed")
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]

SETTINGS = """
run: [train]
data:
  _target_: nequip.data.datamodule.ASEDataModule
  seed: 1
  train_file_path: {folder}/train.extxyz
  val_file_path: {folder}/train.extxyz
  transforms:
    - _target_: nequip.data.transforms.ChemicalSpeciesToAtomTypeMapper
      model_type_names: [Na, Cl]
    - {{_target_: nequip.data.transforms.NeighborListTransform, r_max: 4.5}}
  train_dataloader: {{_target_: torch.utils.data.DataLoader, batch_size: 2}}
  val_dataloader: {{_target_: torch.utils.data.DataLoader, batch_size: 2}}
  stats_manager:
    _target_: nequip.data.CommonDataStatisticsManager
    type_names: [Na, Cl]
    dataloader_kwargs: {{batch_size: 2}}
trainer:
  _target_: lightning.Trainer
  max_epochs: 2
  accelerator: cpu
  logger: false
  enable_progress_bar: false
  callbacks:
    - _target_: lightning.pytorch.callbacks.ModelCheckpoint
      dirpath: {folder}
      save_last: true
training_module:
  _target_: nequip.train.EMALightningModule
  loss:
    _target_: nequip.train.EnergyForceLoss
    per_atom_energy: true
    coeffs: {{total_energy: 1.0, forces: 1.0}}
  val_metrics:
    _target_: nequip.train.EnergyForceMetrics
    coeffs: {{per_atom_energy_mae: 1.0, forces_mae: 1.0}}
  optimizer: {{_target_: torch.optim.Adam, lr: 0.01}}
  model:
    _target_: nequip.model.NequIPGNNModel
    seed: 1
    model_dtype: float64
    type_names: [Na, Cl]
    r_max: 4.5
    num_layers: 2
    l_max: 1
    parity: true
    num_features: 4
    radial_mlp_depth: 1
    radial_mlp_width: 8
    avg_num_neighbors: ${{training_data_stats:num_neighbors_mean}}
    per_type_energy_shifts: ${{training_data_stats:per_atom_energy_mean}}
    per_type_energy_scales: ${{training_data_stats:forces_rms}}
global_options: {{allow_tf32: false}}
"""


def crystal(seed):
    atoms = bulk("NaCl", "rocksalt", a=5.7, cubic=True).repeat(2)
    atoms.rattle(0.15, seed=seed)
    return atoms


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """A network that has seen Fumi and Tosi's ions, compiled for batches."""
    folder = tmp_path_factory.mktemp("nequip")
    labelled = label([crystal(seed) for seed in range(4)], sodium_chloride(cutoff=5.6))
    write(folder / "train.extxyz", labelled)
    (folder / "settings.yaml").write_text(SETTINGS.format(folder=folder))
    programs = Path(sys.executable).parent
    calls = (
        ["nequip-train", "-cp", str(folder), "-cn", "settings"],
        [
            "nequip-compile", str(folder / "last.ckpt"), str(folder / "salt.nequip.pt2"),
            "--mode", "aotinductor", "--target", "batch", "--device", "cpu",
        ],
    )  # fmt: skip
    for program, *words in calls:
        subprocess.run([programs / program, *words], cwd=folder, check=True, capture_output=True)
    return folder / "salt.nequip.pt2"


def test_file_says_elements_and_cutoff(compiled):
    potential = load(str(compiled), device="cpu")
    assert potential.species == ("Na", "Cl")
    assert potential.cutoff == 4.5
    assert potential.precision == "float64"
    assert len(potential.sha256) == 64


def test_a_system_is_alone_in_its_batch(compiled):
    potential, fresh = load(str(compiled), device="cpu"), crystal(7)
    results = potential.model(ts.io.atoms_to_state([crystal(6), fresh], "cpu", torch.float64))
    alone = potential.model(ts.io.atoms_to_state([fresh], "cpu", torch.float64))
    assert float(results["energy"][1]) == pytest.approx(float(alone["energy"][0]), abs=1e-9)
    np.testing.assert_allclose(results["forces"][64:].detach(), alone["forces"].detach(), atol=1e-9)


def test_invariant_and_a_gradient(compiled):
    certificate = certify(
        load(str(compiled), device="cpu"),
        crystal(3),
        only=[
            "translation", "rotation", "inversion", "permutation", "extensivity",
            "force_is_gradient", "stress_is_strain_derivative",
        ],
    )  # fmt: skip
    assert certificate.sound, certificate.outcome
