"""The corrector: an ensemble, a small network distilled from it, a band, and when to abstain."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from couplers.residual.features import ACTIVE, STATIC, as_published

SHIPPED = Path(__file__).with_name("shipped")
COVERAGE = 0.9
NETWORKS = ("student", "ensemble")
FLOOR = 5e-5  # V, below which no error is looked at
LARGEST_BAND = 1.0  # V
Layers = tuple[tuple[np.ndarray, np.ndarray], ...]


@dataclass(frozen=True)
class Correction:
    """What a corrector says at each sample (V); where `abstained` the correction is 0."""

    voltage: np.ndarray
    band: np.ndarray
    abstained: np.ndarray
    spread: np.ndarray
    unguarded: np.ndarray  # what the network says even where it abstains


@dataclass(frozen=True, eq=False)
class Corrector:
    r"""Weights, scales and limits; arrays only, kept in one file.

    The correction is :math:`\Delta V = u \sum_m \tilde d_m N_m(\tilde s, \tilde d)` with scaled
    features :math:`\tilde s, \tilde d`, a voltage unit :math:`u` and a network :math:`N` of two
    hidden layers of tanh. `student` is the small network that goes into a solver; `teachers` are
    the ensemble.
    """

    static_mean: np.ndarray
    static_scale: np.ndarray
    active_scale: np.ndarray
    unit: float  # V
    student: Layers
    teachers: tuple[Layers, ...]
    lowest: np.ndarray  # of all features, static first: the box that was trained in
    highest: np.ndarray
    doubt: Layers  # network of the doubt, see `terms`; the student's first
    largest_doubt: np.ndarray  # V, (network,), beyond which it abstains
    factor: np.ndarray  # (network, kind, as published), half width of the band in doubts
    abstained_band: float  # V, where it abstains
    memory_times: np.ndarray  # s
    cell: str  # fingerprint of the cell
    about: Mapping[str, Any]  # set, highest C-rate, data hash, versions, measured errors

    @property
    def size(self) -> int:
        """Number of weights (1) of the student."""
        return sum(matrix.size + bias.size for matrix, bias in self.student)

    def outside(self, static: np.ndarray, active: np.ndarray) -> np.ndarray:
        """Largest way out of the box, in units of its width (1); 0 inside."""
        both = np.concatenate([static, active], axis=-1)
        width = self.highest - self.lowest
        over = np.maximum(both - self.highest, self.lowest - both) / width
        # what is not a number is nowhere near the box
        return np.where(np.isfinite(over), np.clip(over, 0.0, None), np.inf).max(axis=-1)

    def correct(
        self,
        static: np.ndarray,
        active: np.ndarray,
        *,
        network: str = "ensemble",
        kind: np.ndarray | None = None,
    ) -> Correction:
        """Correct samples, with the band of each, and abstain where it was not trained.

        Parameters
        ----------
        static : numpy.ndarray
            Static features (1), last dim as `couplers.residual.features.STATIC`.
        active : numpy.ndarray
            Active features (1), last dim as `couplers.residual.features.ACTIVE`.
        network : str
            ``"ensemble"``, its mean, or ``"student"``, as inside a solver.
        kind : numpy.ndarray, optional
            `couplers.residual.features.kind` of the profile that each sample is of; where that is
            not known, the band is the widest one of all kinds.

        Returns
        -------
        Correction
            Arrays (V) with the other dims.

        Raises
        ------
        ValueError
            If the network is unknown.
        """
        if network not in NETWORKS:
            raise ValueError(f"network is {network!r}, expected 'ensemble' or 'student'.")
        return self.both(static, active, kind=kind)[network]

    def both(
        self, static: np.ndarray, active: np.ndarray, *, kind: np.ndarray | None = None
    ) -> dict[str, Correction]:
        """What `correct` says for each of the two networks, at the cost of one."""
        said, terms, spread = self.terms(static, active)
        doubts = np.exp(dense(self.doubt, terms))
        inside = self.outside(static, active) <= 0
        own = as_published(static).astype(int)
        found = {}
        for which, network in enumerate(NETWORKS):
            doubt = doubts[..., which]
            with np.errstate(invalid="ignore"):
                fine = inside & (doubt <= self.largest_doubt[which])
            factor = self.factor[which]
            half = (factor.max(axis=0)[own] if kind is None else factor[kind, own]) * doubt
            widened = np.fmax(self.abstained_band, np.fmin(half, LARGEST_BAND))
            found[network] = Correction(
                voltage=np.where(fine, said[which], 0.0),
                band=np.where(fine, half, widened),
                abstained=~fine,
                spread=spread,
                unguarded=said[which],
            )
        return found

    def terms(
        self, static: np.ndarray, active: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What both networks say (V), the terms of the doubt, and the ensemble's spread (V).

        The doubt is the size of error (V) to be expected at a sample, the exponential of a network
        of all scaled features and of the logarithms of the ensemble's spread, of the student's
        distance from it, and of the correction.
        """
        s = np.clip((static - self.static_mean) / self.static_scale, -20, 20).astype(np.float32)
        d = np.clip(active / self.active_scale, -50, 50).astype(np.float32)
        student = self.unit * forward(self.student, s, d)
        each = np.stack([self.unit * forward(layers, s, d) for layers in self.teachers])
        spread, mean = each.std(axis=0, ddof=1), each.mean(axis=0)
        sizes = np.stack([spread, student - mean, mean], axis=-1) / FLOOR
        terms = np.concatenate([s, d, 0.5 * np.log1p(sizes**2)], axis=-1)
        return np.stack([student, mean]), terms, spread

    def save(self, path: str | Path) -> None:
        """Write all of it to one ``.npz`` file of plain arrays."""
        arrays: dict[str, Any] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in ("student", "doubt"):
                arrays |= _flat(field.name, value)
            elif field.name == "teachers":
                for k, layers in enumerate(value):
                    arrays |= _flat(f"teacher{k}", layers)
            elif field.name == "about":
                arrays["about"] = np.array(json.dumps(dict(value)))
            else:
                arrays[field.name] = np.asarray(value)
        np.savez(Path(path), **arrays)


def load(name: str | Path) -> Corrector:
    """Load a corrector: a shipped one by the name of its parameter set, or a file.

    Parameters
    ----------
    name : str or pathlib.Path
        Such as ``"Chen2020"``, or the path of an ``.npz`` file that `Corrector.save` wrote.

    Raises
    ------
    ValueError
        If there is no such corrector, with the names of those that are shipped; or if the file
        is none, or one for other features.
    """
    path = SHIPPED / f"{name}.npz" if not str(name).endswith(".npz") else Path(name)
    if not path.exists():
        known = ", ".join(sorted(file.stem for file in SHIPPED.glob("*.npz"))) or "none"
        raise ValueError(
            f"There is no corrector {name!r}. Shipped are: {known}. Train one with "
            "'multiscale train-corrector', or give the path of an .npz file."
        )
    with np.load(path) as stored:
        arrays = {key: stored[key] for key in stored.files}
    lacking = (
        {field.name for field in fields(Corrector)} - {"student", "teachers", "doubt"} - set(arrays)
    )
    if lacking:
        raise ValueError(f"{path} is no corrector: it lacks {', '.join(sorted(lacking))}.")
    given = len(arrays["static_mean"]), len(arrays["active_scale"])
    if given != (len(STATIC), len(ACTIVE)):
        raise ValueError(
            f"{path} is a corrector of {given[0]} static and {given[1]} active features, expected "
            f"{len(STATIC)} and {len(ACTIVE)}: train it anew with 'multiscale train-corrector'."
        )
    values: dict[str, Any] = {}
    for field in fields(Corrector):
        if field.name in ("student", "doubt"):
            values[field.name] = _layers(field.name, arrays)
        elif field.name == "teachers":
            count = len({key.split(".")[0] for key in arrays if key.startswith("teacher")})
            values["teachers"] = tuple(_layers(f"teacher{k}", arrays) for k in range(count))
        elif field.name == "about":
            values["about"] = json.loads(str(arrays["about"]))
        else:
            value = arrays[field.name]
            values[field.name] = value if value.ndim else value.item()
    return Corrector(**values)


def forward(layers: Layers, static: np.ndarray, active: np.ndarray) -> np.ndarray:
    """What a network says, in its unit, of scaled features."""
    return np.einsum("...m,...m->...", dense(layers, np.concatenate([static, active], -1)), active)


def dense(layers: Layers, inputs: np.ndarray) -> np.ndarray:
    """The outputs of a network with hidden layers of tanh; the last dim is that of the inputs."""
    h = inputs
    for k, (matrix, bias) in enumerate(layers):
        h = h @ matrix.T.astype(h.dtype) + bias.astype(h.dtype)
        if k < len(layers) - 1:
            h = np.tanh(h)
    return h


def conformal(scores: Sequence[float] | np.ndarray, coverage: float = COVERAGE) -> float:
    r"""The factor that covers a new profile with this probability.

    The :math:`\lceil (n + 1) p \rceil`-th smallest of the `n` calibration profiles' scores; a
    profile's score is the largest of its errors in units of the doubt, so that the band holds a
    profile from its start to its end.

    Parameters
    ----------
    scores : sequence of float
        Scores (1) of the calibration profiles.
    coverage : float
        Probability (1).

    Raises
    ------
    ValueError
        If there are too few profiles for that coverage.

    References
    ----------
    Vovk, Gammerman, Shafer, Algorithmic Learning in a Random World (2005)

    Examples
    --------
    >>> conformal(range(1, 20), coverage=0.9)
    18.0
    """
    ordered = np.sort(np.asarray(scores, dtype=float))
    place = int(np.ceil((len(ordered) + 1) * coverage - 1e-9))
    if place > len(ordered):
        raise ValueError(
            f"{len(ordered)} calibration profiles are too few for a coverage of {coverage:g}."
        )
    return float(ordered[place - 1])


def _flat(name: str, layers: Layers) -> dict[str, np.ndarray]:
    found = {}
    for k, (matrix, bias) in enumerate(layers):
        found[f"{name}.{k}.matrix"] = matrix.astype(np.float32)
        found[f"{name}.{k}.bias"] = bias.astype(np.float32)
    return found


def _layers(name: str, arrays: Mapping[str, np.ndarray]) -> Layers:
    count = sum(key.startswith(f"{name}.") for key in arrays) // 2
    return tuple(
        (
            arrays[f"{name}.{k}.matrix"].astype(float),
            arrays[f"{name}.{k}.bias"].astype(float),
        )
        for k in range(count)
    )
