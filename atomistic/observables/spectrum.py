r"""The low-frequency spectrum of velocities, and self-diffusivity as its limit at no frequency.

.. math:: S(f) = \int_0^\infty \langle v_x(0) v_x(t) \rangle \cos(2\pi f t)\,\mathrm{d}t,
          \qquad S(0) = D

The velocities are displacements between the frames of the track over their interval, so S is that
of the motion as seen at that interval: right at low frequency, where diffusion is.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr

from atomistic.observables.displacements import observe, species, walk
from atomistic.observables.green_kubo import zero_frequency
from atomistic.observables.shared_motion import correlations, linked

ORDINATES = 32  # lowest frequencies that shared motion is measured from


def _shared(track: np.ndarray) -> float:
    """M/M_eff of what displacements share."""
    replicas, frames, atoms, _ = track.shape
    products = correlations(track, min(ORDINATES, frames // 4))
    return linked(*products, atoms=atoms, replicas=replicas)[0]


def velocity_spectrum(
    observed: xr.Dataset,
    *,
    chosen: Sequence[str] | None = None,
    host: Sequence[str] = (),
    bands: int = 40,
) -> xr.Dataset:
    """Spectrum of the velocity (m2 s-1) of each species, averaged over bands of frequency.

    Parameters
    ----------
    observed : xarray.Dataset
        A TRAJECTORY, or what `displacements.observe` or an observer made of one.
    chosen : sequence of str, optional
        Species; all if not given.
    host : sequence of str
        Species whose centre of mass is put at rest.
    bands : int
        Number of bands, geometrically spaced from one period of the run up to half the frequency
        of the track's frames; those without an ordinate of their own are left out.

    Returns
    -------
    xarray.Dataset
        ``velocity_spectrum`` (condition, species, frequency) with ``_std``, which allows for what
        particles share; coordinate ``frequency`` (Hz), mean of the band; attribute ``frame``.

    Raises
    ------
    ValueError
        Lists the faults of the trajectory, or says that there is no band.
    """
    if bands < 1:
        raise ValueError(f"velocity_spectrum: {bands} bands were asked for; give at least 1.")
    names = species(observed) if chosen is None else list(chosen)
    observed = observe(observed, host=host, chosen=names)
    count = (observed.sizes["frame"] - 2) // 2
    edges = np.unique(np.round(np.geomspace(1, count + 1, bands + 1)).astype(int))
    shape = (observed.sizes["condition"], len(names), len(edges) - 1)
    value, error = np.empty(shape), np.empty(shape)
    for condition in range(shape[0]):
        for kind, name in enumerate(names):
            seen = walk(observed, condition, name)
            step = np.diff(seen.track, axis=1)
            length = step.shape[1] * seen.track_interval
            wave = np.fft.rfft(step, axis=1)[:, 1 : count + 1]
            power = (np.abs(wave) ** 2).mean((0, 2, 3)) / (2 * length)
            value[condition, kind] = np.add.reduceat(power, edges[:-1] - 1) / np.diff(edges)
            series = step.shape[0] * step.shape[2] * step.shape[3] / _shared(seen.track)
            error[condition, kind] = value[condition, kind] / np.sqrt(series * np.diff(edges))
    middle = (edges[:-1] + edges[1:] - 1) / 2 / length
    dims = ("condition", "species", "frequency")
    return xr.Dataset(
        {
            "temperature": ("condition", observed["temperature"].values, {"units": "K"}),
            "velocity_spectrum": (dims, value, {"units": "m2 s-1"}),
            "velocity_spectrum_std": (dims, error, {"units": "m2 s-1"}),
        },
        coords={
            "species": names,
            "frequency": ("frequency", middle, {"units": "Hz"}),
        },
        attrs={"frame": observed.attrs["frame"]},
    )


def green_kubo_self_diffusivity(
    observed: xr.Dataset,
    *,
    chosen: Sequence[str] | None = None,
    host: Sequence[str] = (),
    highest: float | None = None,
    draws: int = 400,
    seed: int = 0,
) -> xr.Dataset:
    r"""Self-diffusivity (m2 s-1) from velocities: a check of that from displacements.

    .. math:: D = \int_0^\infty \langle v_x(0) v_x(t) \rangle\,\mathrm{d}t

    by `green_kubo.zero_frequency`, with as many independent series as particles share motion for.
    It gives no verdict: that of `self_diffusion.self_diffusivity` stands.

    Parameters
    ----------
    observed, chosen, host
        As for `velocity_spectrum`.
    highest : float, optional
        Highest frequency (Hz) of a band.
    draws : int
        Posterior draws.
    seed : int
        Seed of the draws.

    Returns
    -------
    xarray.Dataset
        ``self_diffusivity`` (condition, species) with ``_std`` and ``_draw``, and ``band`` (Hz).

    Raises
    ------
    ValueError
        Lists the faults of the trajectory, or if `zero_frequency` refuses.
    """
    names = species(observed) if chosen is None else list(chosen)
    observed = observe(observed, host=host, chosen=names)
    rng = np.random.default_rng(seed)
    shape = (observed.sizes["condition"], len(names))
    value, band, sample = np.empty(shape), np.empty(shape), np.empty((*shape, draws))
    for condition in range(shape[0]):
        for kind, name in enumerate(names):
            seen = walk(observed, condition, name)
            velocity = np.diff(seen.track, axis=1) / seen.track_interval
            series = velocity.reshape(*velocity.shape[:2], -1)
            value[condition, kind], sample[condition, kind], band[condition, kind] = zero_frequency(
                series,
                seen.track_interval,
                highest=highest,
                shared=_shared(seen.track),
                draws=draws,
                rng=rng,
            )
    dims = ("condition", "species")
    return xr.Dataset(
        {
            "temperature": ("condition", observed["temperature"].values, {"units": "K"}),
            "self_diffusivity": (dims, value, {"units": "m2 s-1"}),
            "self_diffusivity_std": (dims, sample.std(-1), {"units": "m2 s-1"}),
            "self_diffusivity_draw": ((*dims, "draw"), sample, {"units": "m2 s-1"}),
            "band": (dims, band, {"units": "Hz"}),
        },
        coords={"species": names},
        attrs={"frame": observed.attrs["frame"], "finite_size_correction": "none"},
    )
