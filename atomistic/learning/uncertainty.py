"""How far to believe a committee: intervals calibrated on data that it did not learn from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch_sim as ts
from ase import Atoms
from scipy.optimize import minimize

from atomistic.potentials.committee import force_spread, members
from atomistic.potentials.potential import Potential

AT_ONCE = 16  # frames in one call
NOT_ALIKE = 0.02  # of the values; more beyond the calibration's range is another domain
TOLERANCE = 0.05  # of the coverage


@dataclass(frozen=True)
class Calibration:
    r"""From the spread of a committee to an interval that holds what it promises.

    .. math:: |\epsilon| \le q \sqrt{a^2 + (b s)^2}

    Parameters
    ----------
    noise : float
        a, the error that is left where the members agree: noise of the labels, and what the shape
        of the network cannot hold (aleatoric; unit of the errors).
    scale : float
        b, error per spread s (epistemic; 1).
    quantile : float
        q, from the conformal rule (1).
    level : float
        Share of errors that the interval is to hold (1).
    largest : float
        Largest spread of the data, or of what was learnt from (unit of the errors); nothing is
        known beyond it.
    count : int
        Number of errors.

    References
    ----------
    Angelopoulos, Bates, Found. Trends Mach. Learn. 16, 494 (2023),
    https://doi.org/10.1561/2200000101
    """

    noise: float
    scale: float
    quantile: float
    level: float
    largest: float
    count: int

    def epistemic(self, spread: np.ndarray) -> np.ndarray:
        """Standard error from what was not learnt: more labels lessen it."""
        return self.scale * np.asarray(spread)

    def half_width(self, spread: np.ndarray) -> np.ndarray:
        """Half the interval, in the unit of the errors."""
        return self.quantile * np.hypot(self.noise, self.epistemic(spread))


@dataclass(frozen=True)
class Coverage:
    """How often intervals hold the errors of some data.

    Parameters
    ----------
    level : float
        Share promised (1).
    share : float
        Share found (1).
    beyond : float
        Share of values whose spread is larger than any of the calibration (1).
    """

    level: float
    share: float
    beyond: float

    @property
    def trusted(self) -> bool:
        """Whether the data look like those of the calibration; known without their labels."""
        return self.beyond <= NOT_ALIKE

    @property
    def holds(self) -> bool:
        """Whether the share found is that promised, within 5 %."""
        return abs(self.share - self.level) <= TOLERANCE

    @property
    def outcome(self) -> str:
        """One sentence."""
        found = (
            f"{100 * self.share:.0f} % of the errors lie in the {100 * self.level:.0f} % interval"
        )
        if self.trusted:
            return f"{found}; the spreads are those of the calibration."
        return (
            f"{found}, but {100 * self.beyond:.0f} % of the spreads are larger than any of the "
            "calibration: these structures are outside of what was learnt, and the intervals "
            "promise nothing; label some of them and train again."
        )


def calibrate(
    errors: np.ndarray,
    spread: np.ndarray,
    *,
    level: float = 0.9,
    learnt: np.ndarray | None = None,
) -> Calibration:
    r"""Fit noise and scale by maximum likelihood, then the quantile by the split conformal rule.

    Parameters
    ----------
    errors : numpy.ndarray
        Errors on data that the committee did not learn from, one dim.
    spread : numpy.ndarray
        Spread of the committee at each, in the same unit.
    level : float
        Share of errors that the interval is to hold (1).
    learnt : numpy.ndarray, optional
        Spread of the committee at what it learnt from, in the same unit. Frames held out by chance
        may all be quiet ones, and others like those learnt from would then pass for strangers;
        with this they do not. Errors on learnt data are not asked for: they promise too much.

    Raises
    ------
    ValueError
        If there are fewer than twenty errors, or the two differ in shape.
    """
    errors, spread = np.asarray(errors, float), np.asarray(spread, float)
    if errors.shape != spread.shape or errors.ndim != 1 or len(errors) < 20:
        raise ValueError(
            f"calibrate was given errors of shape {errors.shape} and spreads of shape "
            f"{spread.shape}; give one of each for at least twenty values."
        )
    unit = float(np.sqrt(np.mean(errors**2)))
    e, s = errors / unit, spread / max(float(np.sqrt(np.mean(spread**2))), 1e-300)

    def unlikely(logs: np.ndarray) -> float:
        variance = np.exp(2 * logs[0]) + np.exp(2 * logs[1]) * s**2
        return float(np.mean(np.log(variance) + e**2 / variance))

    starts = ([-1.0, -0.3], [-3.0, 0.0], [0.0, -3.0])
    bounds = [(-12.0, 3.0)] * 2
    found = min(
        (minimize(unlikely, start, method="L-BFGS-B", bounds=bounds) for start in starts),
        key=lambda each: each.fun,
    )
    noise = float(np.exp(found.x[0])) * unit
    scale = float(np.exp(found.x[1])) * unit / max(float(np.sqrt(np.mean(spread**2))), 1e-300)
    ratio = np.sort(np.abs(errors) / np.hypot(noise, scale * spread))
    rank = min(len(ratio), int(np.ceil((len(ratio) + 1) * level)))
    known = spread if learnt is None else np.append(spread, learnt)
    return Calibration(noise, scale, float(ratio[rank - 1]), level, float(known.max()), len(errors))


def cover(errors: np.ndarray, spread: np.ndarray, calibration: Calibration) -> Coverage:
    """Count how often the intervals of a calibration hold other errors.

    Parameters
    ----------
    errors, spread : numpy.ndarray
        As for `calibrate`.
    calibration : Calibration
        What is judged.
    """
    inside = np.abs(np.asarray(errors)) <= calibration.half_width(spread)
    beyond = np.asarray(spread) > calibration.largest
    return Coverage(calibration.level, float(inside.mean()), float(beyond.mean()))


def force_errors(frames: Sequence[Atoms], potential: Potential) -> tuple[np.ndarray, np.ndarray]:
    """Errors of the mean force, and the spread, of every component (eV Å-1).

    Parameters
    ----------
    frames : sequence of Atoms
        Labelled structures.
    potential : Potential
        With members.
    """
    return _errors(
        frames,
        potential,
        lambda _, forces, some: (
            forces.mean(1)
            - _labels(np.concatenate([frame.get_forces() for frame in some]), forces),
            force_spread(forces)[:, None].expand(-1, 3),
        ),
    )


def energy_errors(frames: Sequence[Atoms], potential: Potential) -> tuple[np.ndarray, np.ndarray]:
    """Errors of the mean energy per atom, and its spread, of every frame (eV).

    Parameters
    ----------
    frames : sequence of Atoms
        Labelled structures.
    potential : Potential
        With members.
    """
    return _errors(
        frames,
        potential,
        lambda energy, _, some: (
            (energy.mean(1) - _labels([frame.get_potential_energy() for frame in some], energy))
            / _labels([len(frame) for frame in some], energy),
            energy.std(1) / _labels([len(frame) for frame in some], energy),
        ),
    )


Asked = Callable[[torch.Tensor, torch.Tensor, list[Atoms]], tuple[torch.Tensor, torch.Tensor]]


def _errors(
    frames: Sequence[Atoms], potential: Potential, compare: Asked
) -> tuple[np.ndarray, np.ndarray]:
    """Ask every member about some frames at a time; return errors and spreads, flat."""
    potential.check_elements(frames)
    model = potential.model
    found: list[tuple[np.ndarray, np.ndarray]] = []
    for first in range(0, len(frames), AT_ONCE):
        some = list(frames[first : first + AT_ONCE])
        energy, forces = members(model, ts.io.atoms_to_state(some, model.device, model.dtype))
        off, spread = compare(energy, forces, some)
        found.append((off.cpu().numpy().ravel(), spread.cpu().numpy().ravel()))
    errors, spreads = zip(*found, strict=True)
    return np.concatenate(errors), np.concatenate(spreads)


def _labels(values: Sequence[float] | np.ndarray, like: torch.Tensor) -> torch.Tensor:
    return torch.as_tensor(np.asarray(values), dtype=like.dtype, device=like.device)
