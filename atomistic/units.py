"""Between the atomic units of molecular dynamics and coherent SI: the only converter.

``value_in_si = value * UNIT`` on the way in and ``value_in_unit = value_in_si / UNIT`` on the way
to a reader. Inside `atomistic` energies are eV, lengths Å and charges e; times are named where
they appear, since integrators count in ASE's own unit (about 10.18 fs).
"""

from __future__ import annotations

from ase.data import atomic_masses, atomic_numbers
from scipy import constants

ANGSTROM = constants.angstrom  # m
FEMTOSECOND = constants.femto  # s
PICOSECOND = constants.pico  # s
ELECTRONVOLT = constants.elementary_charge  # J; the number is also the charge of a proton (C)
EV_PER_ANGSTROM = ELECTRONVOLT / ANGSTROM  # N
EV_PER_CUBIC_ANGSTROM = ELECTRONVOLT / ANGSTROM**3  # Pa
EV_PER_PARTICLE = ELECTRONVOLT * constants.Avogadro  # J mol-1
DALTON = constants.atomic_mass  # kg

NEUTRAL = 1e-6  # e per atom; a system with less is neutral, as charges are given in decimals


def mass(symbol: str) -> float:
    """Return the mass (kg) of one atom of the element `symbol`.

    Raises
    ------
    ValueError
        If `symbol` is no chemical element.

    Examples
    --------
    >>> round(mass("Li") / DALTON, 2)
    6.94
    """
    if symbol not in atomic_numbers:
        raise ValueError(f"{symbol!r} is no chemical element; give a symbol such as 'Li'.")
    return float(atomic_masses[atomic_numbers[symbol]]) * DALTON
