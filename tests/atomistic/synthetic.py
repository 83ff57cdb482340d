"""Trajectories whose transport coefficients are known exactly, in SI, and counts of coverage."""

from __future__ import annotations

import numpy as np
import xarray as xr
from scipy import stats

ANGSTROM, FEMTOSECOND = 1e-10, 1e-15
FACES = np.vstack([np.eye(3), -np.eye(3)])


def brownian(rng, shape, *, diffusivity=0.1, interval=25.0):
    """Free walkers (replica, frame, atom, xyz) in Å; `diffusivity` in Å2/ps, `interval` in fs."""
    replicas, frames, atoms = shape
    step = np.sqrt(2 * diffusivity * interval / 1e3)
    jumps = step * rng.standard_normal((replicas, frames, atoms, 3))
    return np.cumsum(jumps, axis=1)


def clustered(rng, shape, *, diffusivity=0.1, interval=25.0, size=6, correlation=0.3):
    """Walkers whose noise is shared inside clusters: Haven ratio 1 / (1 + (size - 1) rho)."""
    replicas, frames, atoms = shape
    common = brownian(rng, (replicas, frames, atoms // size), diffusivity=diffusivity * correlation,
                      interval=interval)  # fmt: skip
    own = brownian(rng, shape, diffusivity=diffusivity * (1 - correlation), interval=interval)
    return own + np.repeat(common, size, axis=2)


def langevin(rng, shape, *, diffusivity=0.1, interval=25.0, relaxation=100.0):
    """Underdamped free walkers, by the exact propagator; `relaxation` of the velocity in fs."""
    replicas, frames, atoms = shape
    h = interval / relaxation
    a = np.exp(-h)
    # reduced units: velocity variance 1, friction 1, so D = 1 and time is in `relaxation`
    covariance = np.array([[2 * h - 3 + 4 * a - a * a, (1 - a) ** 2], [(1 - a) ** 2, 1 - a * a]])
    factor = np.linalg.cholesky(covariance)
    velocity = rng.standard_normal((replicas, atoms, 3))
    position = np.zeros((replicas, frames, atoms, 3))
    for frame in range(1, frames):
        noise = np.einsum("ij,j...->i...", factor, rng.standard_normal((2, replicas, atoms, 3)))
        position[:, frame] = position[:, frame - 1] + velocity * (1 - a) + noise[0]
        velocity = a * velocity + noise[1]
    return position * np.sqrt(diffusivity * relaxation / 1e3)


def hopping(rng, shape, *, rate=2.0, back=0.5, jump=2.5, vibration=0.3, interval=25.0, memory=3.0):
    """Lattice hops at `rate` (1/ps) of `jump` Å, reversed with chance `back`, plus rattling.

    The mean cosine of successive hops is -back + (1 - back)/5, which gives the correlation factor
    and D. The rattling relaxes over `memory` frames. Returns positions and D (Å2/ps).
    """
    replicas, frames, atoms = shape
    chance = rate * interval / 1e3
    cosine = -back + (1 - back) / 5
    diffusivity = (1 + cosine) / (1 - cosine) * rate * jump**2 / 6
    last = rng.integers(0, 6, (replicas, atoms))
    site = np.zeros((replicas, atoms, 3))
    position = np.empty((replicas, frames, atoms, 3))
    for frame in range(frames):
        hops = rng.random((replicas, atoms)) < chance
        reverse = (last + 3) % 6
        other = (reverse + rng.integers(1, 6, last.shape)) % 6
        last = np.where(hops, np.where(rng.random(last.shape) < back, reverse, other), last)
        site += np.where(hops[..., None], jump * FACES[last], 0.0)
        position[:, frame] = site
    return position + rattling(rng, shape, vibration, memory), diffusivity


def rattling(rng, shape, amplitude, memory=3.0):
    """Stationary Ornstein-Uhlenbeck vibration about a site (Å), correlated over `memory` frames."""
    replicas, frames, atoms = shape
    keep = np.exp(-1 / memory)
    noise = rng.standard_normal((frames, replicas, atoms, 3))
    out = np.empty_like(noise)
    out[0] = noise[0]
    for frame in range(1, frames):
        out[frame] = keep * out[frame - 1] + np.sqrt(1 - keep**2) * noise[frame]
    return amplitude * np.moveaxis(out, 0, 1)


def caged_hopping(rng, shape, *, radius=1.0, cage=0.5, rate=0.5, jump=4.0, interval=25.0):
    """Motion inside a cage, relaxing over `cage` ps, and hops between cages; positions and D."""
    sites, diffusivity = hopping(rng, shape, rate=rate, back=1 / 6, jump=jump, vibration=0.0,
                                 interval=interval)  # fmt: skip
    return sites + rattling(rng, shape, radius, cage * 1e3 / interval), diffusivity


def trajectory(positions, *, symbols, temperatures, interval=25.0, length=20.0, potentials=None):
    """Wrap positions, one array (replica, frame, atom, xyz) in Å a condition, as TRAJECTORY."""
    position = np.stack(positions).astype(np.float32) * np.float32(ANGSTROM)
    conditions, replicas, frames, _, _ = position.shape
    cell = np.broadcast_to(np.eye(3) * length * ANGSTROM, (conditions, replicas, 3, 3)).copy()
    return xr.Dataset(
        {
            "temperature": ("condition", np.asarray(temperatures, float), {"units": "K"}),
            "position": (("condition", "replica", "frame", "atom", "xyz"), position,
                         {"units": "m"}),
            "cell": (("condition", "replica", "xyz", "partner"), cell, {"units": "m"}),
            "time": ("frame", np.arange(frames) * interval * FEMTOSECOND, {"units": "s"}),
            "symbol": ("atom", list(symbols)),
            "potential_name": ("replica", list(potentials or ["toy"] * replicas)),
        }
    )  # fmt: skip


def binary_salt(rng, shape, *, cation=0.1, anion=0.2, correlation=0.4, interval=25.0):
    """Pairs of ions with correlated noise: cations first, then anions, (replica, frame, atom, xyz).

    Of `shape` (replica, frame, pairs). In units of pairs, L++ = cation, L-- = anion and
    L+- = correlation sqrt(cation anion), all Å2/ps, in the frame of the walkers themselves.
    """
    first = brownian(rng, shape, diffusivity=1.0, interval=interval)
    second = brownian(rng, shape, diffusivity=1.0, interval=interval)
    mixed = correlation * first + np.sqrt(1 - correlation**2) * second
    return np.concatenate([np.sqrt(cation) * first, np.sqrt(anion) * mixed], axis=2)


def ions_in_a_host(position, temperature=800.0):
    """Put Li walkers among as many Cl that stand still."""
    position = np.concatenate([position, np.zeros_like(position)], axis=2)
    half = position.shape[2] // 2
    return trajectory([position], symbols=["Li"] * half + ["Cl"] * half, temperatures=[temperature])


def inside(draws, truth):
    """Say whether the central 68 and 95 % of the draws hold the truth."""
    low, lower, upper, high = np.percentile(draws, [2.5, 15.865, 84.135, 97.5])
    return lower <= truth <= upper, low <= truth <= high


def assert_covers(hits, nominal, *, below=0.001, above=0.001):
    """Assert a number of hits that a nominal interval gives but once in a thousand suites."""
    fewest, most = stats.binom.ppf([below, 1 - above], len(hits), nominal)
    assert fewest <= np.sum(hits) <= most, f"{np.mean(hits):.2f} covered, nominal {nominal}"
