"""What a solver says at its end: a flag and a sentence."""

from __future__ import annotations

from dataclasses import dataclass


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
