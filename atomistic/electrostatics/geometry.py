"""Electrodes, the cell that they stand in, and what may be wrong with either."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
import torch
from ase import Atoms
from ase.constraints import FixAtoms
from scipy.optimize import brentq
from scipy.special import erfc

Boundary = Literal["slab", "finite field", "periodic"]
Charges = Mapping[str, float] | Sequence[float] | Callable[[torch.Tensor], torch.Tensor]

TOO_CLOSE = 1.0  # Å between an electrode atom and an ion, below which a structure is refused


@dataclass(frozen=True)
class Electrode:
    """Atoms that are held at one potential.

    Parameters
    ----------
    atoms : sequence of int
        Their indices in the structure.
    width : float
        Width (Å) of the Gaussian charges, at which they fall to 1/e; the inverse of what other
        codes call eta.
    thomas_fermi_length : float
        Screening length (Å) of the metal's electrons; 0 for a perfect metal.
    atomic_density : float
        Atoms per volume (Å-3) of the electrode, which the Thomas-Fermi length needs.
    """

    atoms: tuple[int, ...]
    width: float = 0.505
    thomas_fermi_length: float = 0.0
    atomic_density: float = math.nan

    def __post_init__(self) -> None:
        object.__setattr__(self, "atoms", tuple(int(index) for index in self.atoms))
        faults = []
        if not self.atoms:
            faults.append("it has no atoms")
        if len(set(self.atoms)) < len(self.atoms):
            faults.append("an atom is named twice")
        if not (math.isfinite(self.width) and self.width > 0):
            faults.append(f"width is {self.width} Å, but must be positive")
        if not self.thomas_fermi_length >= 0:
            faults.append(
                f"thomas_fermi_length is {self.thomas_fermi_length} Å, but must not be negative"
            )
        elif self.thomas_fermi_length > 0 and not self.atomic_density > 0:
            faults.append("thomas_fermi_length needs atomic_density (Å-3), atoms per volume")
        if faults:
            raise ValueError("Electrode: " + "; ".join(faults) + ".")


def plates(
    sites: int, spacing: float, gap: float, *, room: float, element: str = "C"
) -> tuple[Atoms, dict[str, tuple[int, ...]]]:
    """Return two plates of one layer each, held fixed, and the atoms of "left" and "right".

    Parameters
    ----------
    sites : int
        Atoms along either side of a square plate.
    spacing : float
        Distance of neighbours (Å).
    gap : float
        Distance of the plates (Å); the left one stands at z = 0.
    room : float
        Height of the cell beyond the gap (Å).
    element : str
        What they are made of.

    Raises
    ------
    ValueError
        If a number is not positive.

    Examples
    --------
    >>> atoms, held = plates(2, 2.5, 10.0, room=4.0)
    >>> len(atoms), held["right"], atoms.cell.lengths().tolist()
    (8, (4, 5, 6, 7), [5.0, 5.0, 14.0])
    """
    if not (sites > 0 and spacing > 0 and gap > 0 and room > 0):
        raise ValueError(
            f"plates: {sites} sites {spacing} Å apart, a gap of {gap} Å and {room} Å of room were "
            "given, but all must be positive."
        )
    steps = np.arange(sites) * spacing
    plane = np.array([(x, y) for x in steps for y in steps])
    number = len(plane)
    atoms = Atoms(
        [element] * (2 * number),
        positions=np.vstack([np.c_[plane, np.full(number, z)] for z in (0.0, gap)]),
        cell=(sites * spacing, sites * spacing, gap + room),
        pbc=True,
        constraint=FixAtoms(range(2 * number)),
    )
    return atoms, {"left": tuple(range(number)), "right": tuple(range(number, 2 * number))}


def ideal_width(spacing: float) -> float:
    r"""Width (Å) of charges with which one layer of a square lattice is an ideal plane of metal.

    .. math:: \sum_{k \ne 0} \frac{2\pi}{k}\,\mathrm{erfc}\frac{k w}{\sqrt 2} = 2\sqrt{2\pi}\,w

    over the lattice's reciprocal vectors: what an atom's own lumpiness adds to its potential then
    makes up for what its width takes off. Narrower charges put the plane of the metal in front of
    the atoms, wider ones behind them.

    Parameters
    ----------
    spacing : float
        Distance of neighbours (Å).

    Examples
    --------
    >>> round(ideal_width(2.0), 6)
    0.409143
    """
    steps = np.arange(-40, 41)
    k = 2 * np.pi / spacing * np.hypot(*np.meshgrid(steps, steps)).ravel()
    k = k[k > 0]

    def beyond(width: float) -> float:
        waves = (2 * np.pi / k * erfc(k * width / np.sqrt(2))).sum()
        return float(waves - 2 * np.sqrt(2 * np.pi) * width)

    return float(brentq(beyond, 0.1 * spacing, 0.5 * spacing))


def check(
    structure: Atoms,
    electrodes: Mapping[str, Electrode],
    charges: Charges,
    *,
    potentials: Mapping[str, Sequence[float]],
    boundary: str,
    fields: Sequence[float] | None,
    widths: Mapping[str, float],
    relative_permittivity: float,
    cutoff: float,
    accuracy: float,
    solver: str,
) -> None:
    """Raise ValueError with all faults of what a `ConstantPotential` is to be made of."""
    faults = []
    number = len(structure)
    symbols = structure.get_chemical_symbols()
    index = [atom for electrode in electrodes.values() for atom in electrode.atoms]
    inside = [atom for atom in index if 0 <= atom < number]
    if not electrodes:
        faults.append("there is no electrode")
    if len(inside) < len(index):
        faults.append(f"electrodes name atoms beyond the structure's {number}")
    if len(set(inside)) < len(inside):
        faults.append("an atom belongs to two electrodes")
    if boundary not in ("slab", "finite field", "periodic"):
        faults.append(f"boundary is {boundary!r}, expected 'slab', 'finite field' or 'periodic'")
    if solver not in ("matrix", "conjugate gradients"):
        faults.append(f"solver is {solver!r}, expected 'matrix' or 'conjugate gradients'")
    if not relative_permittivity >= 1:
        faults.append(f"relative_permittivity is {relative_permittivity}, expected 1 or more")
    if set(potentials) != set(electrodes):
        faults.append(
            f"potentials are given of {', '.join(sorted(potentials)) or 'nothing'}, but the "
            f"electrodes are {', '.join(sorted(electrodes)) or 'none'}"
        )
    lengths = {len(list(values)) for values in potentials.values()}
    if len(lengths) > 1 or 0 in lengths:
        faults.append(
            f"potentials have lengths {sorted(lengths)}; give as many for each electrode as there "
            "are systems in a batch"
        )
    if fields is not None and (boundary != "slab" or {len(list(fields))} != lengths):
        faults.append(
            f"{len(list(fields))} fields are given; they are for a slab, one for each system"
        )
    if not all(np.isfinite(np.asarray(values, float)).all() for values in potentials.values()):
        faults.append("a potential is not finite")
    if not 0 < accuracy < 0.1:
        faults.append(f"accuracy is {accuracy}, expected a small number such as 1e-6")
        accuracy = 1e-6
    if not cutoff > 0:
        faults.append(f"cutoff is {cutoff} Å, but must be positive")
    else:
        widest = max([*(one.width for one in electrodes.values()), *widths.values()], default=0.0)
        most = cutoff / (math.sqrt(2) * math.sqrt(-math.log(accuracy)))
        if widest > most:
            faults.append(
                f"charges of width {widest:g} Å are felt beyond the cutoff of {cutoff:g} Å, which "
                f"allows {most:.2g} Å; raise the cutoff or narrow the charges"
            )
    free = [atom for atom in range(number) if atom not in set(inside)]
    if isinstance(charges, Mapping):
        unknown = sorted({symbols[atom] for atom in free} - set(charges))
        if unknown:
            faults.append(f"no charge is given for {', '.join(unknown)}")
    elif not callable(charges) and len(charges) != number:
        faults.append(f"{len(charges)} charges were given for {number} atoms")
    faults += _faults_of_place(structure, electrodes, inside, free, boundary)
    if faults:
        raise ValueError("Constant potential: " + "; ".join(faults) + ".")


def _faults_of_place(
    structure: Atoms,
    electrodes: Mapping[str, Electrode],
    inside: list[int],
    free: list[int],
    boundary: str,
) -> list[str]:
    """Say what is wrong with the cell and with where atoms are."""
    cell = structure.cell.array
    size = np.abs(cell).max(initial=0.0)
    if structure.cell.rank < 3:
        return ["the structure has no cell"]
    tilt = max(abs(cell[0, 2]), abs(cell[1, 2]), abs(cell[2, 0]), abs(cell[2, 1]))
    if tilt > 1e-6 * size or cell[2, 2] <= 0:
        return [
            "the electrodes must be parallel to the plane of the first two cell vectors and the "
            f"third must stand on it along z, but the cell is {cell.round(3).tolist()} Å; turn it"
        ]
    faults = []
    z = structure.positions[:, 2]
    ranges = {
        name: (z[list(one.atoms)].min(), z[list(one.atoms)].max())
        for name, one in electrodes.items()
        if set(one.atoms) <= set(inside)
    }
    ordered = sorted(ranges.items(), key=lambda item: item[1])
    for (one, (_, top)), (other, (bottom, _)) in pairwise(ordered):
        if bottom <= top:
            faults.append(
                f"the electrodes {one} and {other} overlap along z ({bottom:.2f} Å is below "
                f"{top:.2f} Å); they must lie across z, parallel to the periodic plane"
            )
    if boundary == "finite field" and len(electrodes) != 2:
        faults.append(f"a finite field is for two electrodes, but there are {len(electrodes)}")
    span = float(np.ptp(z)) if len(z) else 0.0
    if span > cell[2, 2]:
        faults.append(
            f"the atoms reach over {span:.2f} Å along z, but the cell is {cell[2, 2]:.2f} Å high"
        )
    if inside and free:
        periodic = structure.copy()
        periodic.pbc = (True, True, boundary != "slab")
        flat = periodic.get_scaled_positions(wrap=False)
        apart = flat[free][:, None] - flat[inside][None]
        apart -= np.round(apart) * np.asarray(periodic.pbc)
        distance = np.linalg.norm(apart @ cell, axis=2)
        close = np.unravel_index(int(distance.argmin()), distance.shape)
        if distance[close] < TOO_CLOSE:
            faults.append(
                f"atom {free[close[0]]} ({structure.symbols[free[close[0]]]}) lies "
                f"{distance[close]:.2f} Å from the electrode atom {inside[close[1]]}; electrolyte "
                "and electrode overlap"
            )
        if len(ordered) == 2:
            bottom, top = ordered[0][1][0], ordered[1][1][1]
            beyond = [atom for atom in free if not bottom < z[atom] < top]
            if beyond:
                faults.append(
                    f"atom {beyond[0]} ({structure.symbols[beyond[0]]}) lies at z = "
                    f"{z[beyond[0]]:.2f} Å, not between the electrodes"
                )
    return faults
