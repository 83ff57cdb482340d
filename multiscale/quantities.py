"""The numbers a study ends in, and the units in which a person writes and reads them."""

from __future__ import annotations

from dataclasses import dataclass

from scipy.constants import Avogadro, angstrom, elementary_charge

ELECTRONVOLT = elementary_charge * Avogadro  # J mol-1

# unit of a reader: (SI unit, value of one reader's unit in it)
READER_UNITS: dict[str, tuple[str, float]] = {
    "Å": ("m", angstrom),
    "nm": ("m", 1e-9),
    "S/m": ("S m-1", 1.0),
    "mS/cm": ("S m-1", 0.1),
    "S/cm": ("S m-1", 100.0),
    "eV": ("J mol-1", ELECTRONVOLT),
    "kJ/mol": ("J mol-1", 1e3),
    "m2/s": ("m2 s-1", 1.0),
    "cm2/s": ("m2 s-1", 1e-4),
}


@dataclass(frozen=True)
class Quantity:
    """A number of the study that a published value can stand beside.

    Parameters
    ----------
    label : str
        What a reader calls it.
    units : str
        SI unit in which it is stored.
    shown_in : str
        Unit in which it is shown, one of `READER_UNITS`.
    """

    label: str
    units: str
    shown_in: str

    def shown(self, value: float) -> float:
        """Return `value` (SI) in the unit in which it is shown."""
        return value / READER_UNITS[self.shown_in][1]


QUANTITIES = {
    "lattice_parameter": Quantity("Lattice parameter", "m", "Å"),
    "activation_energy": Quantity("Activation energy", "J mol-1", "eV"),
    "self_diffusivity": Quantity("Self-diffusivity", "m2 s-1", "cm2/s"),
    "conductivity": Quantity("Conductivity", "S m-1", "mS/cm"),
}
