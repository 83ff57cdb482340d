"""Teacher to student: label, train, run the student, relabel what it did, train again.

A low error on held-out frames proves nothing about a potential that walks somewhere else, so the
errors that count here are on-policy: frames of the student's own trajectories, relabelled.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch_sim as ts
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.stress import full_3x3_to_voigt_6_stress

from atomistic.potentials.load import Potential
from atomistic.units import EV_PER_CUBIC_ANGSTROM

GIGAPASCAL = 1e9
FORCE_LIMIT = 25.0  # eV/Å; a frame beyond it is broken, and would spoil the fit
# coefficients and exponents of the universal screening function of Ziegler, Biersack, Littmark
UNIVERSAL_SCREENING = (0.18175, 3.1998, 0.50986, 0.94229, 0.28022, 0.4029, 0.02817, 0.20162)


@dataclass(frozen=True)
class Architecture:
    """Size of a NEP4 student.

    Parameters
    ----------
    radial_cutoff, angular_cutoff : float
        Cutoffs of the two parts of the descriptor (Å).
    n_max : int
        Highest radial function of either part.
    basis : int
        Chebyshev functions behind each radial function.
    neurons : int
        Width of the hidden layer.
    repulsion : float
        The ZBL core ends at this fraction of the closest approach in the training data (1).
    """

    radial_cutoff: float = 6.0
    angular_cutoff: float = 4.5
    n_max: int = 6
    basis: int = 8
    neurons: int = 30
    repulsion: float = 0.95


@dataclass(frozen=True)
class Errors:
    """Errors of a potential against its teacher over some frames.

    Parameters
    ----------
    force : float
        Root mean square over force components (eV Å-1).
    relative_force : float
        The same over the root mean square of the teacher's forces (1).
    energy : float
        Root mean square of the energy error per atom, offset included (eV).
    stress : float
        Root mean square over stress components (GPa).
    frames : int
        Number of frames.
    """

    force: float
    relative_force: float
    energy: float
    stress: float
    frames: int


def label(
    frames: Sequence[Atoms],
    teacher: Potential,
    *,
    progress: Callable[[int, int, str], None] | None = None,
) -> list[Atoms]:
    """Give frames the teacher's energy (eV), forces (eV Å-1) and stress (eV Å-3).

    Parameters
    ----------
    frames : sequence of Atoms
        Structures; they are copied.
    teacher : Potential
        What labels them.
    progress : callable, optional
        Called with (frames done, frames in all, what is running).
    """
    teacher.check_elements(frames)
    model = teacher.model
    labelled = []
    for count, frame in enumerate(frames, 1):
        state = ts.io.atoms_to_state([frame], model.device, model.dtype)
        results = {name: value.detach().cpu().numpy() for name, value in model(state).items()}
        copy = frame.copy()
        copy.calc = SinglePointCalculator(
            copy,
            energy=float(results["energy"][0]),
            forces=results["forces"].astype(float),
            stress=full_3x3_to_voigt_6_stress(results["stress"][0].astype(float)),
        )
        labelled.append(copy)
        if progress is not None:
            progress(count, len(frames), f"labelling with {teacher.name}")
    return labelled


def errors(frames: Sequence[Atoms], student: Potential) -> Errors:
    """Compare a student with the labels that frames carry.

    Parameters
    ----------
    frames : sequence of Atoms
        Labelled structures.
    student : Potential
        What is judged.
    """
    again = label(frames, student)
    force = np.concatenate([frame.get_forces().ravel() for frame in frames])
    difference = np.concatenate([frame.get_forces().ravel() for frame in again]) - force
    energy = [
        (one.get_potential_energy() - other.get_potential_energy()) / len(one)
        for one, other in zip(again, frames, strict=True)
    ]
    stress = [
        one.get_stress() - other.get_stress() for one, other in zip(again, frames, strict=True)
    ]
    rms = _rms(difference)
    return Errors(
        rms,
        rms / _rms(force),
        _rms(energy),
        _rms(stress) * EV_PER_CUBIC_ANGSTROM / GIGAPASCAL,
        len(frames),
    )


def closest_approaches(frames: Sequence[Atoms]) -> dict[str, float]:
    """Find the smallest distance (Å) of each pair of elements, such as "Li-S", over frames."""
    smallest: dict[str, float] = {}
    for frame in frames:
        symbols = np.array(frame.get_chemical_symbols())
        distances = frame.get_all_distances(mic=True)
        np.fill_diagonal(distances, np.inf)
        for one in np.unique(symbols):
            for other in np.unique(symbols):
                if one <= other:
                    shortest = float(distances[np.ix_(symbols == one, symbols == other)].min())
                    pair = f"{one}-{other}"
                    smallest[pair] = min(smallest.get(pair, np.inf), shortest)
    return smallest


def train(
    frames: Sequence[Atoms],
    *,
    folder: Path,
    architecture: Architecture = Architecture(),
    steps: int = 4000,
    batch_size: int = 4,
    learning_rate: tuple[float, float] = (1e-2, 1e-4),
    seed: int = 0,
    start: Path | None = None,
) -> Path:
    r"""Fit a NEP4 potential with a ZBL core to labelled frames.

    The loss is :math:`\sum (\Delta E/N / 5\,\mathrm{meV})^2 + (\Delta F / 50\,\mathrm{meV/Å})^2
    + 0.1\,(\Delta W/N / 20\,\mathrm{meV})^2`, in mean squares. The core of each pair is switched
    on below its closest approach in the data, where the network has nothing to say.

    Parameters
    ----------
    frames : sequence of Atoms
        Labelled structures.
    folder : Path
        Where ``nep.txt`` and the training log are written.
    architecture : Architecture
        Size of the student.
    steps : int
        Gradient steps.
    batch_size : int
        Frames per step.
    learning_rate : tuple of float
        First and last learning rate (1), along a cosine.
    seed : int
        Seed of weights and batches.
    start : Path, optional
        A ``nep.txt`` of the same architecture to start from.

    Returns
    -------
    Path
        The ``nep.txt`` written.

    References
    ----------
    Fan et al., J. Chem. Phys. 157, 114801 (2022), https://doi.org/10.1063/5.0106617
    """
    import neppo
    import torch
    from neppo import StructureContainer, Trainer
    from neppo.losses import EnergyLoss, ForceLoss, VirialLoss
    from neppo.models import NEP, ZBL, Descriptor

    kept = [frame for frame in frames if np.abs(frame.get_forces()).max() < FORCE_LIMIT]
    if len(kept) < batch_size:
        raise ValueError(
            f"train was given {len(frames)} frames, of which {len(kept)} have all forces below "
            f"{FORCE_LIMIT} eV/Å; give at least {batch_size}."
        )
    if start is not None:
        model = neppo.read_model(start)
    else:
        torch.manual_seed(seed)
        species = sorted({symbol for frame in kept for symbol in frame.get_chemical_symbols()})
        core = {}
        for pair, distance in closest_approaches(kept).items():
            one, other = pair.split("-")
            outer = architecture.repulsion * distance
            core[one, other] = (0.5 * outer, outer, *UNIVERSAL_SCREENING)
        model = NEP(
            Descriptor(
                species,
                radial_cutoff=architecture.radial_cutoff,
                angular_cutoff=architecture.angular_cutoff,
                n_max_radial=architecture.n_max,
                n_max_angular=architecture.n_max,
                n_basis_radial=architecture.basis,
                n_basis_angular=architecture.basis,
            ),
            neurons=(architecture.neurons,),
            zbl=ZBL(parameters=core),
        )
    loss = EnergyLoss(sigma=0.005) + ForceLoss(sigma=0.05) + 0.1 * VirialLoss(sigma=0.02)
    trainer = Trainer(
        model,
        loss,
        StructureContainer(model, kept),
        batch_size=batch_size,
        learning_rate=learning_rate,
        seed=seed,
        output_directory=folder,
    )
    trainer.train(steps=steps, report_interval=steps)
    return Path(folder) / "nep.txt"


def _rms(values: object) -> float:
    return float(np.sqrt(np.mean(np.square(np.asarray(values, float)))))
