r"""Frames of molten NaCl to be labelled: bulk, free surfaces, and what electrodes do to the melt.

Fumi and Tosi's ions, which cost next to nothing, walk through them; later the student itself does.
A frame from between electrodes keeps the ions alone, and in ``info["field"]`` the uniform field
(V/Å), times the permittivity of the medium, that plates and applied voltage had put on them:

.. math:: \varepsilon E = -\varepsilon \frac{U}{H}
          + 4 \pi k_e \frac{Q}{A} \left(1 - \frac{d}{H}\right)

of plates with the charge Q on the lower one, d apart in a cell of height H. Inside the melt it
makes up for the field of the ions' own dipole, as metal does. A local potential knows nothing of a
field that reaches across a cell, and takes the middle of the melt for bulk: see `train.unseen`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch_sim as ts
from ase import Atoms

from atomistic.dynamics import Schedule, sample
from atomistic.electrostatics import geometry
from atomistic.electrostatics.electrodes import ConstantPotential, Electrode
from atomistic.electrostatics.ewald import COULOMB
from atomistic.electrostatics.walls import Walls
from atomistic.potentials.compose import Among, Sum
from atomistic.potentials.ionic import sodium_chloride
from atomistic.potentials.load import Potential
from atomistic.units import ANGSTROM

CHARGES = {"Na": 1.0, "Cl": -1.0}
LENGTH = 12.63  # Å, of 64 ions at the density of the melt at 1100 K
# temperature (K), scale of the length
BULK = [
    (1000, 0.98), (1000, 1.02), (1100, 1.00), (1100, 1.03), (1200, 0.97), (1200, 1.06),
    (1400, 1.00), (1400, 1.10), (1700, 0.95), (1700, 1.03), (2200, 0.92), (2600, 0.90),
]  # fmt: skip
# temperature (K), scale of the length along the surface, height of the cell (Å)
SURFACES = [(1000, 1.0, 25.0), (1100, 0.96, 28.0), (1200, 1.03, 26.0), (1400, 1.0, 30.0)]
# between electrodes
SITES, SPACING, GAP, PAIRS, REACH, ABOVE = 5, 2.5, 24.0, 45, 2.6, 4.0
PLACE = 3.2  # Å from ion to ion along the plates at the start
VOLTAGES = (-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0)


def grid(length: float, number: int = 4, *, height: float | None = None) -> Atoms:
    """Rock salt of ``number``^3 ions in a cube (Å), under a vacuum if the cell is higher."""
    steps = np.arange(number)
    place = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), -1).reshape(-1, 3)
    place = place[np.argsort(place.sum(1) % 2, kind="stable")]
    half = len(place) // 2
    return Atoms(
        ["Na"] * half + ["Cl"] * half,
        positions=place * length / number + 0.3,
        cell=[length, length, height or length],
        pbc=True,
    )


def plates(seed: int, *, sites: int = SITES, pairs: int = PAIRS) -> Atoms:
    """Two plates of ``sites``^2 atoms each, with a shaken grid of ions between them."""
    side = sites * SPACING
    atoms, _ = geometry.plates(sites, SPACING, GAP, room=ABOVE)
    rng = np.random.default_rng(seed)
    across = round(side / PLACE)
    count = (across, across, 7)
    place = np.stack(np.meshgrid(*[np.arange(n) for n in count], indexing="ij"), -1).reshape(-1, 3)
    even = place.sum(1) % 2 == 0
    chosen = [rng.permutation(np.flatnonzero(one))[:pairs] for one in (even, ~even)]
    room = np.array([side / count[0], side / count[1], (GAP - 2 * REACH - 1.6) / (count[2] - 1)])
    ions = place[np.concatenate(chosen)] * room + [0.0, 0.0, REACH + 0.8]
    ions += rng.uniform(-0.15, 0.15, ions.shape)
    return atoms + Atoms(["Na"] * pairs + ["Cl"] * pairs, positions=ions)


def between_electrodes(
    short_range: Potential,
    structure: Atoms,
    voltages: Sequence[float],
    *,
    permittivity: float = 1.0,
) -> Potential:
    """Ions of a short-range model between plates at voltages (V), one system each."""
    sites = int((structure.numbers == 6).sum()) // 2
    dtype = short_range.model.dtype
    half = [0.5 * one for one in voltages]
    electrodes = ConstantPotential(
        structure,
        {"left": Electrode(range(sites)), "right": Electrode(range(sites, 2 * sites))},
        CHARGES,
        potentials={"left": [-one for one in half], "right": half},
        boundary="finite field",
        relative_permittivity=permittivity,
        cutoff=8.0 if structure.cell[0, 0] > 16.0 else 6.0,
        accuracy=1e-4,
        skin=1.0,
        dtype=dtype,
    )
    walls = Walls(
        low=REACH, high=GAP - REACH, elements=list(CHARGES), energy=0.095, length=0.35, dtype=dtype
    )
    return Potential(
        name=f"{short_range.name} between electrodes",
        model=Sum([electrodes, Among(short_range.model, list(CHARGES)), walls]),
        species=("C", *CHARGES),
        cutoff=short_range.cutoff,
        sha256=short_range.sha256,
        closest_approach=short_range.closest_approach,
    )


def walk(
    starts: Sequence[Atoms],
    potential: Potential,
    temperatures: Sequence[float],
    *,
    picoseconds: float,
    kept: int,
    seed: int,
    timestep: float = 3.0,
) -> list[list[Atoms]]:
    """Run every start at its temperature (K) in one batch; return evenly spaced late frames."""
    schedule = Schedule(
        timestep=timestep,
        equilibration=0.3 * picoseconds,
        production=0.7 * picoseconds + 1e-3 * timestep,
        frame_interval=timestep * (700.0 * picoseconds / kept // timestep),
    )
    run = sample(
        [[one] for one in starts], potential, temperatures=temperatures, schedule=schedule,
        seed=seed,
    )  # fmt: skip
    found: list[list[Atoms]] = []
    for number, start in enumerate(starts):
        found.append([])
        for place in run["position"].values[number, 0, -kept:]:
            atoms = start.copy()
            atoms.positions = place / ANGSTROM
            atoms.info = {"temperature": float(temperatures[number])}
            found[-1].append(atoms)
    return found


def ions_alone(frames: Sequence[Atoms], potential: Potential, system: int) -> list[Atoms]:
    """Take the electrodes away and note the field (V/Å) on the ions, times the permittivity."""
    electrodes = potential.model.models[0]
    systems, root = len(electrodes.potential), electrodes.root
    found = []
    for frame in frames:
        batch = ts.io.atoms_to_state(
            [frame] * systems, potential.model.device, potential.model.dtype
        )
        charge = float(electrodes(batch)["electrode_charge"][system, 0])
        area = frame.cell[0, 0] * frame.cell[1, 1]
        height = frame.cell[2, 2]
        sheet = 4 * math.pi * COULOMB * charge / area * (1 - GAP / height)
        ions = frame[frame.numbers != 6]
        ions.set_constraint()
        ions.info = {**frame.info, "field": root * float(electrodes.field[system]) + sheet}
        found.append(ions)
    return found


def melted(seed: int = 0) -> list[Atoms]:
    """Bulk and surfaces as Fumi and Tosi's ions melt, in the order of BULK and SURFACES."""
    starts = [grid(LENGTH * scale) for _, scale in BULK]
    starts += [grid(LENGTH * scale, height=height) for _, scale, height in SURFACES]
    for number, one in enumerate(starts):
        one.rattle(0.2, seed=seed + number)
    hot = [max(2200.0, one[0]) for one in BULK] + [1700.0] * len(SURFACES)
    charged = sodium_chloride(cutoff=5.6)
    return [rows[-1] for rows in walk(starts, charged, hot, picoseconds=3.0, kept=2, seed=seed)]


def met_in_bulk(
    potential: Potential, starts: Sequence[Atoms], *, picoseconds: float, kept: int, seed: int
) -> list[Atoms]:
    """What a whole potential meets in bulk and at free surfaces, in the order of both."""
    temperatures = [float(one[0]) for one in [*BULK, *SURFACES]]
    rows = walk(starts, potential, temperatures, picoseconds=picoseconds, kept=kept, seed=seed)
    frames = [atoms for row in rows for atoms in row]
    for atoms in frames:  # a slab stays in one piece
        atoms.pbc = (True, True, atoms.cell[2, 2] < 1.5 * atoms.cell[0, 0])
        atoms.wrap()
        atoms.pbc = True
    return frames


def met_between_electrodes(
    short_range: Potential,
    *,
    permittivity: float,
    picoseconds: float,
    kept: int,
    seed: int,
    temperature: float = 1200.0,
) -> list[Atoms]:
    """What the short range of a potential meets between electrodes at each of VOLTAGES."""
    cells = [plates(seed + number) for number in range(len(VOLTAGES))]
    model = between_electrodes(short_range, cells[0], VOLTAGES, permittivity=permittivity)
    rows = walk(
        cells, model, [temperature] * len(cells), picoseconds=picoseconds, kept=kept, seed=seed
    )
    return [ions for system, row in enumerate(rows) for ions in ions_alone(row, model, system)]


def first(kept: int = 8, seed: int = 0) -> list[Atoms]:
    """Frames of Fumi and Tosi's ions."""
    charged, pairs = (sodium_chloride(cutoff=5.6, charged=one) for one in (True, False))
    found = met_in_bulk(charged, melted(seed), picoseconds=6.0, kept=kept, seed=seed + 1)
    return found + met_between_electrodes(
        pairs, permittivity=1.0, picoseconds=6.0, kept=kept, seed=seed + 2
    )
