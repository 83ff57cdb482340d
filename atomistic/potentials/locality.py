r"""Whether a potential of finite reach can hold the charges that it has to do without.

An ion is screened by a cloud of others. Linear theory puts the share

.. math:: s(R) = \Big(1 + \frac{R}{\lambda}\Big) e^{-R/\lambda}, \qquad
          \lambda^{-2} = \frac{4\pi k_e}{\varepsilon k_B T} \sum_i n_i z_i^2

of that cloud beyond a distance R. A model that sees no further than R and has no explicit
electrostatics cannot know of it, and two charges that far apart do not feel each other. The
condition is necessary, not sufficient. In a melt the length is shorter than an ion, and what
screens is their order. At a wall, in a field or around a net charge fields reach on, and a model
without electrostatics is wrong however dense the ions.

References
----------
Debye, Hückel, Phys. Z. 24, 185 (1923)

Stillinger, Lovett, J. Chem. Phys. 49, 1991 (1968), https://doi.org/10.1063/1.1670358
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch_sim as ts
from ase import Atoms
from scipy import constants
from torch_sim.models.interface import ModelInterface

from atomistic.electrostatics.ewald import COULOMB
from atomistic.potentials.potential import Potential

BEYOND = 0.05  # of the screening cloud; a model that misses more is called too short
FELT = 1e-4  # eV/Å, on an ion from others beyond the cutoff
ROOM = 2.0  # Å, by which the ions of that look are further apart than the cutoff
# attributes and classes by which networks tell how often their atoms pass messages
COUNTS = ("n_conv", "num_interactions")
PASSES = ("IrrepsConvolution", "InteractionBlock")


@dataclass(frozen=True)
class Locality:
    """What a potential sees, beside what it would have to see.

    Parameters
    ----------
    potential : str
        Its name.
    reach : float
        Cutoff times message-passing layers (Å); nan if the cutoff is unknown.
    debye_length : float
        Screening length of the ions (Å); inf without ions.
    beyond : float
        Share of the screening cloud beyond the reach (1); nan if the reach is unknown.
    long_range : bool
        Whether ions beyond the cutoff feel each other: the model has explicit electrostatics.
        Looked at where the reach falls short.
    """

    potential: str
    reach: float
    debye_length: float
    beyond: float
    long_range: bool

    @property
    def holds(self) -> bool:
        """Whether nothing speaks against the model; also where its reach is unknown."""
        return self.long_range or math.isinf(self.debye_length) or not self.beyond > BEYOND

    @property
    def outcome(self) -> str:
        """One sentence."""
        sees = f"The potential {self.potential} sees {self.reach:.3g} Å far"
        length = f"the Debye length is {self.debye_length:.3g} Å"
        if math.isinf(self.debye_length):
            return "There are no ions whose screening a potential would have to hold."
        if self.long_range:
            return f"The potential {self.potential} has explicit electrostatics; {length}."
        if math.isnan(self.reach):
            return (
                f"The reach of the potential {self.potential} is unknown; {length}, and without "
                f"explicit electrostatics it must see {_needed() * self.debye_length:.3g} Å far."
            )
        if self.holds:
            return f"{sees} and {length}: within its reach ions are screened."
        return (
            f"{sees} and has no explicit electrostatics, but {length}: {100 * self.beyond:.0f} % "
            "of what screens an ion is out of its sight; add the charges as a model of their own "
            "(atomistic.electrostatics.coulomb.Coulomb, potentials.compose.Sum)."
        )


def debye_length(
    structure: Atoms,
    charges: Mapping[str, float],
    *,
    temperature: float,
    permittivity: float = 1.0,
) -> float:
    """Return the Debye length (Å) of the ions in a cell; inf if there are none.

    Parameters
    ----------
    structure : Atoms
        Periodic cell (Å).
    charges : mapping of str to float
        Charge number (1) of each element whose ions can move.
    temperature : float
        Temperature (K).
    permittivity : float
        Relative permittivity (1) of what the ions are in and that is no ion of the structure.

    Raises
    ------
    ValueError
        If the cell has no volume, or temperature or permittivity is not positive.

    Examples
    --------
    >>> salt = Atoms("NaCl", cell=[149.2] * 3, pbc=True)  # one pair at half a millimole a litre
    >>> round(debye_length(salt, {"Na": 1, "Cl": -1}, temperature=298.15, permittivity=78.49))
    136
    """
    faults = []
    if structure.cell.rank != 3:
        faults.append("the structure has no volume; give it a cell")
    if not temperature > 0:
        faults.append(f"temperature is {temperature} K, but must be positive")
    if not permittivity > 0:
        faults.append(f"permittivity is {permittivity}, but must be positive")
    if faults:
        raise ValueError("debye_length: " + "; ".join(faults) + ".")
    total = sum(charges.get(symbol, 0.0) ** 2 for symbol in structure.get_chemical_symbols())
    if not total:
        return math.inf
    thermal = constants.k * temperature / constants.e  # eV
    strength = 4 * math.pi * COULOMB * total / structure.get_volume()
    return math.sqrt(permittivity * thermal / strength)


def layers_of(model: ModelInterface) -> int:
    """Return how many times the atoms of a model pass on what they see (1): its layers.

    Read off the networks of SevenNet, CHGNet, MACE and NequIP; one for all that pass nothing on.

    Parameters
    ----------
    model : torch_sim ModelInterface
        The model.
    """
    counts = [1]
    blocks = 0
    for module in model.modules():
        blocks += type(module).__name__ in PASSES
        for name in COUNTS:
            value = getattr(module, name, None)
            if isinstance(value, int | torch.Tensor):
                counts.append(int(value))
    return max(blocks, *counts)


def sees_far(potential: Potential, charges: Mapping[str, float]) -> bool:
    """Whether ions feel each other beyond the cutoff: put some apart in an empty cell and look.

    Parameters
    ----------
    potential : Potential
        Of known cutoff.
    charges : mapping of str to float
        Charge number (1) of elements that the potential knows.
    """
    group = _neutral_group(charges)
    spacing = potential.cutoff + ROOM
    across = 2 * spacing
    # not on a line, where forces would cancel
    places = [
        [spacing * n + 0.5 * (n % 2), 0.3 * across + 0.4 * n, 0.4 * across]
        for n in range(len(group))
    ]
    cell = [max(len(group), 2) * spacing, across, across]
    frame = Atoms(group, places, cell=cell, pbc=True)
    state = ts.io.atoms_to_state([frame], potential.model.device, potential.model.dtype)
    return float(potential.model(state)["forces"].abs().max()) > FELT


def locality(
    potential: Potential,
    structure: Atoms,
    *,
    charges: Mapping[str, float],
    temperature: float,
    permittivity: float = 1.0,
    mobile: Sequence[str] | None = None,
) -> Locality:
    """Hold what a potential sees against the Debye length of the ions that it is to move.

    Parameters
    ----------
    potential : Potential
        What drives the dynamics.
    structure : Atoms
        Periodic cell (Å).
    charges : mapping of str to float
        Charge number (1) of each element.
    temperature : float
        Temperature (K).
    permittivity : float
        Relative permittivity (1) of what the ions are in: of the solvent.
    mobile : sequence of str, optional
        Elements whose ions can move, and so screen; all that are charged if not given.

    Raises
    ------
    ValueError
        As `debye_length` says.
    """
    moving = {name: q for name, q in charges.items() if mobile is None or name in mobile}
    length = debye_length(structure, moving, temperature=temperature, permittivity=permittivity)
    reach = potential.cutoff * layers_of(potential.model)
    ratio = reach / length
    beyond = (1 + ratio) * math.exp(-ratio) if not math.isnan(ratio) else math.nan
    present = {name: q for name, q in charges.items() if q and name in set(structure.symbols)}
    both = len({q > 0 for q in present.values()}) == 2
    far = both and not math.isnan(reach) and beyond > BEYOND and sees_far(potential, present)
    return Locality(potential.name, reach, length, beyond, far)


def _neutral_group(charges: Mapping[str, float]) -> Sequence[str]:
    """Return the smallest neutral group of ions of one cation and one anion."""
    groups = []
    for cation, positive in charges.items():
        for anion, negative in charges.items():
            if positive > 0 > negative:
                scale = 1000  # charges such as 0.8 are as good as whole ones
                plus, minus = round(positive * scale), round(-negative * scale)
                shared = math.gcd(plus, minus)
                groups.append([cation] * (minus // shared) + [anion] * (plus // shared))
    return min(groups, key=len)


def _needed() -> float:
    """Return the reach, in Debye lengths, beyond which `BEYOND` of the cloud lies."""
    ratio = 1.0
    while (1 + ratio) * math.exp(-ratio) > BEYOND:
        ratio += 0.01
    return ratio
