"""What a solver says at its end: a flag and a sentence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from continuum.laws import Law


class SolverError(RuntimeError):
    """A solver could not give an answer; the message is the sentence of its outcome."""


@dataclass(frozen=True)
class Outcome:
    """How a solve ended.

    Parameters
    ----------
    converged : bool
        Whether the answer may be used.
    sentence : str
        What happened, for a reader.
    iterations : int
        Newton iterations (1).
    """

    converged: bool
    sentence: str
    iterations: int = 0

    def unless_converged(self, *, throw: bool) -> Outcome:
        """Raise `SolverError` with the sentence if the solve failed and `throw` is set."""
        if throw and not self.converged:
            raise SolverError(self.sentence)
        return self


def windows_left(laws: Mapping[str, Law], low: float, high: float, temperature: float) -> str:
    """Name the laws that were used outside their windows, each after a semicolon.

    Parameters
    ----------
    laws : Mapping
        Laws by the property that they give.
    low, high : float
        Lowest and highest concentration (mol m-3) that they were taken at.
    temperature : float
        Temperature (K).
    """
    said = []
    for name, law in laws.items():
        for concentration in dict.fromkeys((low, high)):
            if (why := law.outside(concentration, temperature)) is not None:
                said.append(f"; {name}: {why}")
    return "".join(dict.fromkeys(said))
