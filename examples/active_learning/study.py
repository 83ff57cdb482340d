"""A hole that no test error shows, found and filled by active learning.

The committee here is a correction to a baseline with a planted fault: where two argon atoms come
nearer than cold argon ever brings them, it pulls them together. The first labels are of cold argon,
and so are the frames that the first committee is tested on: its error there is small. Then comes a
hot stage. The committee walks, meets distances at which its members disagree, asks the teacher (an
exact Lennard-Jones potential, so that the whole study runs in about a minute on one core) for a few
labels, and trains again, until the hot walk shows nothing that it does not know.

    python study.py                      # writes to results/active_learning; goes on if stopped

The teacher may be any ASE calculator: `load("tblite.ase:TBLite")` is GFN2-xTB.
"""

import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from ase import Atoms
from ase.build import bulk
from torch_sim.models.interface import ModelInterface
from torch_sim.state import SimState

from atomistic.learning.active import Improved, Plan, improve
from atomistic.learning.baseline import corrected
from atomistic.learning.descriptors import SymmetryFunctions
from atomistic.learning.distil import errors, label
from atomistic.learning.networks import Layout, as_potential, load_network
from atomistic.learning.store import read_frames
from atomistic.learning.training import Settings
from atomistic.potentials.pairs import from_pairs, lennard_jones, neighbours
from atomistic.potentials.potential import Potential

CUTOFF = 5.2  # Å
DEPTH, PLACE, WIDTH = 2.0, 2.4, 0.3  # eV and Å: the hole; cold atoms stay beyond 3.3 Å
COLD, HOT = 40.0, 1000.0  # K
TEACHER = lennard_jones(cutoff=CUTOFF)
LAYOUT = Layout(
    ("Ar",),
    SymmetryFunctions(cutoff=CUTOFF, radial=14, shells=1, powers=(1,), nearest=2.0),
    channels=1,
    neurons=(16, 16),
    members=4,
)
SETTINGS = Settings(steps=300, batch=6)
PLAN = Plan(
    temperatures=(HOT, HOT),
    target=0.3,
    picoseconds=0.5,
    timestep=2.0,
    look=3,
    reset=1.5,
    labels=16,
    rounds=6,
)


class Hole(ModelInterface):
    """Pairs that pull where no frame of cold argon goes."""

    def __init__(self) -> None:
        super().__init__()
        self._device, self._dtype = torch.device("cpu"), torch.float64
        self._compute_forces = self._compute_stress = True

    def forward(self, state: SimState, **kwargs: object) -> dict[str, torch.Tensor]:
        """Return energy (eV), forces (eV Å-1) and stress (eV Å-3)."""
        pairs = neighbours(state, CUTOFF)
        r = pairs[3].norm(dim=1)
        energy = -DEPTH * torch.exp(-(((r - PLACE) / WIDTH) ** 2))
        pull = 0.5 * energy * (-2 * (r - PLACE) / WIDTH**2) / r
        forces, stress = from_pairs(state, *pairs, pull[:, None] * pairs[3])
        total = energy.new_zeros(state.n_systems).index_add(0, pairs[2], 0.5 * energy)
        return {"energy": total, "forces": forces, "stress": stress}


BASELINE = Potential("baseline with a hole", Hole(), ("Ar",), CUTOFF)


def crystal() -> Atoms:
    """Thirty-two atoms of argon."""
    return bulk("Ar", cubic=True, a=5.3).repeat(2)


def cold(count: int, seed: int) -> list[Atoms]:
    """Frames as of cold argon, labelled."""
    rng = np.random.default_rng(seed)
    frames = []
    for _ in range(count):
        atoms = crystal()
        atoms.set_cell(atoms.cell.array * (1 + 0.01 * rng.normal()), scale_atoms=True)
        atoms.rattle(0.12, rng=rng)
        frames.append(atoms)
    return label(frames, TEACHER)


def closest(frames: list[Atoms]) -> float:
    """Smallest distance (Å) over frames."""
    return min(
        (frame.get_all_distances(mic=True) + 99 * np.eye(len(frame))).min() for frame in frames
    )


def study(folder: Path, *, seed: int = 0, say=print) -> tuple[Improved, dict[str, float]]:
    """Run the loop; return it, and errors (eV Å-1) before and after, cold and hot."""
    found = improve(
        [crystal()], TEACHER, folder=folder, plan=PLAN, layout=LAYOUT, settings=SETTINGS,
        start=cold(16, seed), baseline=BASELINE, seed=seed,
        progress=lambda done, total, text: say(text),
    )  # fmt: skip
    first = load_network(folder / "round_1" / "committee.network.pt").model
    before, after = corrected(BASELINE, as_potential(first)), found.potential
    quiet = cold(8, seed + 100)
    # what the teacher itself meets at the temperature of the hot stage
    hot = label(teacher_frames(seed + 200), TEACHER)
    first_walk, last_walk = (
        read_frames(folder / f"round_{number}" / "walk.extxyz") for number in (1, len(found.rounds))
    )
    return found, {
        "cold_before": errors(quiet, before).force,
        "cold_after": errors(quiet, after).force,
        "hot_before": errors(hot, before).force,
        "hot_after": errors(hot, after).force,
        "hot_rms_force": float(np.sqrt(np.mean([frame.get_forces() ** 2 for frame in hot]))),
        "closest_before": closest(first_walk),
        "closest_after": closest(last_walk),
        "closest_teacher": closest(hot),
        "resets_before": float(found.rounds[0].resets),
        "resets_after": float(found.rounds[-1].resets),
    }


def teacher_frames(seed: int) -> list[Atoms]:
    """Hot argon by the teacher."""
    from atomistic.dynamics import Schedule, sample

    start = crystal()
    schedule = Schedule(timestep=2.0, equilibration=0.3, production=0.8, frame_interval=40.0)
    run = sample([[start]], TEACHER, temperatures=[HOT], schedule=schedule, seed=seed)
    return [
        Atoms(start.numbers, place * 1e10, cell=start.cell, pbc=True)
        for place in run.position.values[0, 0]
    ]


if __name__ == "__main__":
    torch.set_num_threads(1)
    place = Path(sys.argv[1] if len(sys.argv) > 1 else "results/active_learning")
    improved, numbers = study(place)
    for one in improved.rounds:
        print(asdict(one))
    print(improved.outcome)
    print({name: round(value, 3) for name, value in numbers.items()})
