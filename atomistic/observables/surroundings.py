r"""What surrounds an ion, and for how long: coordination, solvation shells, residence times."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr
from scipy.optimize import curve_fit

from atomistic.observables.displacements import checked
from atomistic.observables.scatter import jackknife_error, pieces, standard_error
from atomistic.units import PICOSECOND

AT_ONCE = 4_000_000  # distances held at once
FEWEST = 1e-3  # share of pairs still together, below which the tail is noise


def _together(
    trajectory: xr.Dataset,
    condition: int,
    replica: int,
    centre: str,
    partner: str,
    cutoff: float,
    frames: np.ndarray,
) -> np.ndarray:
    """Say which partners stand within the cutoff (m) of which centres, (frame, centre, partner)."""
    cell = trajectory["cell"].values[condition, replica]
    heights = 1.0 / np.linalg.norm(np.linalg.inv(cell), axis=0)
    if cutoff > heights.min() / 2:
        raise ValueError(
            f"surroundings: the cutoff of {cutoff * 1e10:.2f} Å is more than half the smallest "
            f"height of the cell, {heights.min() * 1e10:.2f} Å."
        )
    symbols = trajectory["symbol"].values.astype(str)
    one, other = np.flatnonzero(symbols == centre), np.flatnonzero(symbols == partner)
    position = trajectory["position"].values[condition, replica]
    inverse = np.linalg.inv(cell)
    out = np.empty((len(frames), len(one), len(other)), dtype=bool)
    step = max(1, AT_ONCE // (len(one) * len(other)))
    for first in range(0, len(frames), step):
        part = position[frames[first : first + step]].astype(float) @ inverse
        apart = part[:, None, other] - part[:, one][:, :, None]
        apart -= np.round(apart)
        square = np.square(apart @ cell).sum(-1)
        square[:, one[:, None] == other[None, :]] = np.inf
        out[first : first + step] = square < cutoff**2
    return out


def solvation_shells(
    trajectory: xr.Dataset,
    *,
    centre: str,
    cutoffs: Mapping[str, float],
    condition: int = 0,
    most: int = 12,
    frames: int = 200,
    blocks: int = 5,
) -> xr.Dataset:
    """How many of which neighbours stand around an ion, and in which combinations.

    Parameters
    ----------
    trajectory : xarray.Dataset
        A TRAJECTORY.
    centre : str
        Species in the middle.
    cutoffs : mapping of str to float
        For each neighbouring species, the distance (m) within which it belongs to the shell: the
        first minimum of its radial distribution.
    condition : int
        Which condition.
    most : int
        Largest coordination number told apart.
    frames : int
        Frames used of each replica, evenly spaced.
    blocks : int
        Pieces of each replica whose scatter gives the errors.

    Returns
    -------
    xarray.Dataset
        ``coordination`` (partner) (1) with ``_std``; ``coordination_probability`` (partner,
        number) with ``_std``; ``shell_probability`` (shell), of each whole composition, such as
        "4 Cl, 1 Na", commonest first.

    Raises
    ------
    ValueError
        Lists the faults of the trajectory, cutoffs that are not positive or exceed half the cell.
    """
    names = list(cutoffs)
    if not names or any(not value > 0 for value in cutoffs.values()):
        raise ValueError(
            f"solvation_shells: cutoffs are {dict(cutoffs)}; give a positive distance (m) for at "
            "least one species."
        )
    trajectory = checked(trajectory, chosen=[centre, *names], ordered_in_time=False)
    means, chances, whole = [], [], []
    for replica, part in pieces(trajectory, blocks, frames):
        number = np.stack(
            [
                _together(trajectory, condition, replica, centre, name, cutoffs[name], part).sum(2)
                for name in names
            ]
        )
        means.append(number.mean((1, 2)))
        chances.append(
            [
                np.bincount(np.minimum(one, most).ravel(), minlength=most + 1) / one.size
                for one in number
            ]
        )
        whole.append(number.reshape(len(names), -1))
    kinds, counts = np.unique(np.concatenate(whole, axis=1), axis=1, return_counts=True)
    order = np.argsort(-counts)
    label = [
        ", ".join(f"{value} {name}" for value, name in zip(kinds[:, index], names, strict=True))
        for index in order
    ]
    mean, chance = np.array(means), np.array(chances)
    return xr.Dataset(
        {
            "coordination": ("partner", mean.mean(0), {"units": "1"}),
            "coordination_std": ("partner", standard_error(mean), {"units": "1"}),
            "coordination_probability": (("partner", "number"), chance.mean(0), {"units": "1"}),
            "coordination_probability_std": (
                ("partner", "number"),
                standard_error(chance),
                {"units": "1"},
            ),
            "shell_probability": ("shell", counts[order] / counts.sum(), {"units": "1"}),
        },
        coords={"partner": names, "number": np.arange(most + 1), "shell": label},
        attrs={"centre": centre},
    )


def residence_time(
    trajectory: xr.Dataset,
    *,
    centre: str,
    partner: str,
    cutoff: float,
    forgiven: float = 0.0,
    condition: int = 0,
    blocks: int = 4,
) -> xr.Dataset:
    r"""Residence time (s) of a partner in an ion's shell, from how long pairs stay together.

    .. math:: C(t) = \frac{\langle \theta_{ij}(s; s + t) \rangle}{\langle \theta_{ij}(s) \rangle},
              \qquad C(t) \simeq A\,e^{-t/\tau} \ \text{below}\ C = 1/2

    where :math:`\theta_{ij}(s; s + t)` is 1 for a pair within the cutoff from s to s + t, absences
    shorter than `forgiven` left aside (Impey, Madden and McDonald). The fit begins once half the
    pairs have parted, so that the rattling of those at the cutoff is left out.

    Parameters
    ----------
    trajectory : xarray.Dataset
        A TRAJECTORY.
    centre, partner : str
        The pair of species.
    cutoff : float
        Distance (m) within which they are together.
    forgiven : float
        Longest absence (s) that does not count as leaving.
    condition : int
        Which condition.
    blocks : int
        Pieces of each replica whose scatter gives the error.

    Returns
    -------
    xarray.Dataset
        ``residence_time`` (s) with ``_std``; ``survival`` (lag) (1) with ``_std``; coordinate
        ``lag`` (s); attribute ``verdict``. nan, and a sentence, if pairs hardly part in a block.

    Raises
    ------
    ValueError
        Lists the faults of the trajectory, or a cutoff beyond half the cell.

    References
    ----------
    Impey, Madden, McDonald, J. Phys. Chem. 87, 5071 (1983), https://doi.org/10.1021/j150643a008
    """
    trajectory = checked(trajectory, chosen=[centre, partner])
    interval = float(np.diff(trajectory["time"].values).mean())
    length = trajectory.sizes["frame"] // blocks
    patience = round(forgiven / interval)
    curves = []
    for replica in range(trajectory.sizes["replica"]):
        for block in range(blocks):
            part = np.arange(block * length, (block + 1) * length)
            near = _together(trajectory, condition, replica, centre, partner, cutoff, part)
            curves.append(_survival(near.reshape(length, -1), patience))
    curve = np.array(curves)
    lag = np.arange(curve.shape[1]) * interval
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = curve.sum(0) / curve[:, :1].sum()
        others = (curve.sum(0) - curve) / (curve[:, :1].sum() - curve[:, :1])
    best = _decay(mean, lag)
    error = float(jackknife_error(np.array([_decay(one, lag) for one in others])))
    spread = jackknife_error(others)
    said = f"pairs part within {best / PICOSECOND:.3g} ps"
    if not np.isfinite(best):
        error = np.nan
        said = (
            f"{100 * float(mean[-1]):.0f} % of the pairs are still together after "
            f"{lag[-1] / PICOSECOND:.3g} ps; run at least 4 times longer"
        )
    return xr.Dataset(
        {
            "residence_time": ((), best, {"units": "s"}),
            "residence_time_std": ((), error, {"units": "s"}),
            "survival": ("lag", mean, {"units": "1"}),
            "survival_std": ("lag", spread, {"units": "1"}),
        },
        coords={"lag": ("lag", lag, {"units": "s"})},
        attrs={"centre": centre, "partner": partner, "verdict": said},
    )


def _survival(near: np.ndarray, patience: int) -> np.ndarray:
    """Count pairs together without a break at each lag up to half the block, per origin."""
    if patience:
        near = near.copy()
        for pair in near.T:
            away = np.flatnonzero(~pair)
            if not len(away):
                continue
            for gap in np.split(away, np.flatnonzero(np.diff(away) > 1) + 1):
                if len(gap) <= patience and gap[0] > 0 and gap[-1] < len(pair) - 1:
                    pair[gap] = True
    frames = len(near)
    longest = frames // 2
    # how many frames each pair goes on without a break
    run = np.zeros(near.shape, dtype=np.int32)
    run[-1] = near[-1]
    for frame in range(frames - 2, -1, -1):
        run[frame] = np.where(near[frame], run[frame + 1] + 1, 0)
    # the same origins for all lags, so that nothing is lost to the end of the block
    length = np.minimum(run[: frames - longest], longest + 1)
    count = np.bincount(length.ravel(), minlength=longest + 2)
    return np.asarray(np.cumsum(count[::-1])[::-1][1:], dtype=float)


def _decay(curve: np.ndarray, lag: np.ndarray) -> float:
    """Fit A exp(-t / tau) where between half and a thousandth of the pairs are together."""
    inside = (curve < 0.5) & (curve > FEWEST)
    if inside.sum() < 5:
        return float("nan")
    time, value = lag[inside] - lag[inside][0], curve[inside]
    guess = time[-1] / max(1e-9, np.log(value[0] / value[-1]))
    if not np.isfinite(guess) or guess <= 0:
        return float("nan")
    (_, tau), _ = curve_fit(
        lambda t, a, tau: a * np.exp(-t / (tau * guess)), time, value, p0=(value[0], 1.0)
    )
    return float(abs(tau) * guess)


def density_profile(
    trajectory: xr.Dataset,
    *,
    chosen: Sequence[str] | None = None,
    axis: int = 2,
    bins: int = 100,
    condition: int = 0,
    frames: int = 400,
    blocks: int = 5,
) -> xr.Dataset:
    """Number density (m-3) of each species along an axis of an orthogonal cell.

    Parameters
    ----------
    trajectory : xarray.Dataset
        A TRAJECTORY; positions are wrapped into the cell.
    chosen : sequence of str, optional
        Species; all if not given.
    axis : int
        Direction of the profile, along a cell vector that is perpendicular to the other two.
    bins : int
        Number of bins over the cell.
    condition : int
        Which condition.
    frames : int
        Frames used of each replica, evenly spaced.
    blocks : int
        Pieces of each replica whose scatter gives the errors.

    Returns
    -------
    xarray.Dataset
        ``number_density`` (species, z) with ``_std``; coordinate ``z`` (m), middle of the bin.

    Raises
    ------
    ValueError
        Lists the faults of the trajectory, or says that the cell leans along the axis.
    """
    trajectory = checked(trajectory, chosen=list(chosen or ()), ordered_in_time=False)
    symbols = trajectory["symbol"].values.astype(str)
    names = list(chosen) if chosen is not None else list(dict.fromkeys(symbols.tolist()))
    cell = trajectory["cell"].values[condition, 0]
    rest = [other for other in range(3) if other != axis]
    leaning = np.abs(cell[axis, rest]).max() + np.abs(cell[rest, axis]).max()
    if bins < 1 or leaning > 1e-6 * cell[axis, axis]:
        raise ValueError(
            f"density_profile: {bins} bins along a cell that leans by {leaning * 1e10:.3g} Å; give "
            "at least one bin and a cell vector along the axis."
        )
    length = float(cell[axis, axis])
    volume = abs(float(np.linalg.det(cell))) / bins
    profiles = []
    for replica, part in pieces(trajectory, blocks, frames):
        place = trajectory["position"].values[condition, replica][part][..., axis].astype(float)
        index = np.minimum((place / length % 1.0 * bins).astype(int), bins - 1)
        profiles.append(
            [
                np.bincount(index[:, symbols == name].ravel(), minlength=bins) / len(part) / volume
                for name in names
            ]
        )
    profile = np.array(profiles)
    return xr.Dataset(
        {
            "number_density": (("species", "z"), profile.mean(0), {"units": "m-3"}),
            "number_density_std": (("species", "z"), standard_error(profile), {"units": "m-3"}),
        },
        coords={
            "species": names,
            "z": ("z", (np.arange(bins) + 0.5) * length / bins, {"units": "m"}),
        },
        attrs={"axis": "xyz"[axis]},
    )
