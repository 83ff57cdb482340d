r"""How much of their motion particles share: by what factor their scatter understates a variance.

The mean over N particles of anything that they scatter in by s has the variance

.. math:: \psi s^2 / N, \qquad \psi = 1\ \text{for independent particles}

Two things are shared. **Displacements**, of ions that move in clusters or drag each other along:
those are linear correlations, which a few ordinates of the particles' velocities measure to a few
per cent (`linked`). **Pace**, of all that makes every particle of a liquid faster for a while:
temperature, free volume, the flow of the surroundings. It is in no linear correlation, only in how
squares fluctuate together, which few ordinates tell poorly, so it comes as draws (`pace`).
"""

from __future__ import annotations

import numpy as np

from atomistic.observables.lines import slope_weights

STAGES = (1.0, 1.5, 2.25, 3.4, 5.0)  # lags, in start lags, that hold nine tenths of a slope
BAND, MOST_WAVES = 4.0, 256  # frequencies of the pace: in 1/2t, and in number
LOUDEST, STEPS, FOLDS = 1e4, 119, 2.0  # of the pace's prior: reach, grid, mean of its logarithm
CHANCE, LEAST_CHANCE = 0.5, 0.05  # that particles share no pace, alone and when they interact


def correlations(track: np.ndarray, ordinates: int) -> tuple[np.ndarray, np.ndarray]:
    r"""Return products of the velocities at two frequencies, of all particles and of each.

    .. math:: T_{kl} = |\sum_i v_i(k) \cdot v_i^*(l)|^2, \qquad
              A_{kl} = \sum_i |v_i(k) \cdot v_i^*(l)|^2

    averaged over replicas, with :math:`v_i(k)` divided by its root mean square.

    Parameters
    ----------
    track : numpy.ndarray
        Positions (m), (replica, frame, atom, xyz).
    ordinates : int
        Number of lowest frequencies.
    """
    step = np.diff(track, axis=1)
    frames = step.shape[1]
    phase = 2 * np.pi * np.arange(1, ordinates + 1)[:, None] * np.arange(frames) / frames
    rows = step.reshape(len(step), frames, -1)
    velocity = np.cos(phase) @ rows - 1j * (np.sin(phase) @ rows)
    velocity = velocity.reshape(len(step), ordinates, -1, step.shape[-1]).swapaxes(1, 2)
    size = np.sqrt((np.abs(velocity) ** 2).mean((0, 1, 3)))
    velocity /= np.where(size > 0, size, 1.0)[:, None]
    product = velocity @ velocity.conj().swapaxes(-1, -2)  # replica, atom, frequency, frequency
    return (np.abs(product.sum(1)) ** 2).mean(0), (np.abs(product) ** 2).sum(1).mean(0)


def linked(
    together: np.ndarray, apart: np.ndarray, *, atoms: int, replicas: int
) -> tuple[float, float]:
    r"""Return M/M_eff of what displacements share, and by how many standard errors it exceeds 1.

    .. math:: \frac{M}{M_\mathrm{eff}}
              = \frac{\sum_{ij} \|C_{ij}\|^2}{\sum_i \|C_{ii}\|^2}
              = \frac{\langle T_{kl} \rangle_{k \ne l}}{\langle A_{kl} \rangle_{k \ne l}}

    with :math:`C_{ij}` the covariance of the velocities of two particles. Ordinates of different
    frequency are independent, so the mean over pairs of them is free of the bias of a squared
    estimate; K ordinates give K(K - 1)/2 pairs.

    Parameters
    ----------
    together, apart : numpy.ndarray
        What `correlations` gave, (ordinate, ordinate).
    atoms, replicas : int
        Particles of a replica, and replicas.
    """
    ordinates = len(together)
    pairs = ~np.eye(ordinates, dtype=bool)
    alone = apart[pairs].mean() if ordinates > 1 else 0.0
    factor = float(together[pairs].mean() / alone) if alone > 0 else 1.0
    sure = np.sqrt(replicas * ordinates * (ordinates - 1) / 2)
    return float(np.clip(factor, 1.0, max(1.0, 0.9 * atoms))), max(0.0, (factor - 1.0) * sure)


def pace(
    track: np.ndarray,
    lag: int,
    *,
    floor: float = 1.0,
    significance: float = 0.0,
    draws: int = 400,
    rng: np.random.Generator,
) -> np.ndarray:
    r"""Draw the factor psi by which the variance of a mean diffusivity exceeds what scatter says.

    .. math::
        Z_i(s) = \sum_n w_n |r_i(s + n) - r_i(s)|^2, \qquad
        \frac{N |\bar Z(k)|^2}{\sum_i |Z_i(k) - \bar Z(k)|^2} \sim \frac{\psi(k)}{N - 1} F,
        \qquad \psi(k) = \psi_0 \Big[1 + \frac{a}{1 + (k/k_c)^2}\Big]

    Z is what the slope of a line from the lag on averages over origins, with five lags to stand
    for all; followed from origin to origin, its mean and its scatter have the spectra whose ratio
    is psi, and F is that of 2 and 2(N - 1) degrees of freedom. What is wanted is the mean over the
    run, which no ordinate shows. The pace relaxes over :math:`\tau = T / (2 \pi k_c)`, log-uniform
    up to the start lag, over which cages are forgotten; every octave beyond is half as likely as
    the one before, down to one period of the run. The prior of a is 0 with a chance of one half,
    which falls to a twentieth where `significance` says that particles interact, else log(1 + a) is
    exponential: particles that interact exchange energy, so they share a temperature, of which a
    system of N atoms varies by :math:`1/\sqrt{3N}` and D by :math:`E_a / k_B T` times as much. A
    short run shows a factor of two or three badly, so that prior is most of what it has.

    Parameters
    ----------
    track : numpy.ndarray
        Positions (m), (replica, frame, atom, xyz), two atoms at least.
    lag : int
        Lag from which motion is diffusive (frames).
    floor : float
        psi of what displacements share.
    significance : float
        Standard errors by which that exceeds 1.
    draws : int
        Number of draws.
    rng : numpy.random.Generator
        Their source.
    """
    thin = max(1, lag // 4)  # frequencies beyond the band are not needed
    track, lag = track[:, ::thin], max(1, round(lag / thin))
    steps = np.unique(np.round(lag * np.array(STAGES)).astype(int))
    steps = steps[steps <= max(lag, track.shape[1] // 3)]
    weights = slope_weights(steps.astype(float)) if len(steps) > 2 else np.ones(1)
    origins = track.shape[1] - steps[len(weights) - 1]
    signal = np.zeros((track.shape[0], origins, track.shape[2]))
    for step, weight in zip(steps, weights, strict=False):
        moved = track[:, step : step + origins] - track[:, :origins]
        signal += weight * np.einsum("rfax,rfax->rfa", moved, moved)
    count = int(min(origins * BAND / (2 * lag), (origins - 1) // 2, MOST_WAVES))
    if count < 1:
        return np.full(draws, floor)
    wave = np.fft.rfft(signal, axis=1)[:, 1 : count + 1]
    mean = wave.mean(2)
    atoms = track.shape[2]
    scatter = (np.abs(wave - mean[:, :, None]) ** 2).sum(2)
    if not (scatter > 0).all():
        return np.full(draws, floor)
    ratio = atoms * np.abs(mean) ** 2 / scatter

    def likelihood(psi: np.ndarray) -> np.ndarray:
        """Logarithm, for rows of psi over frequencies."""
        tail = np.log1p(ratio[:, None] / psi).sum((0, 2))
        return np.asarray(-len(ratio) * np.log(psi).sum(1) - atoms * tail)

    fold = np.linspace(0.0, np.log(LOUDEST), STEPS + 1)[1:]
    prior = -fold / FOLDS
    prior -= np.log(np.exp(prior).sum())
    chance = max(CHANCE * np.exp(-0.5 * significance**2), LEAST_CHANCE)
    frequency = np.arange(1, count + 1)
    corners = [np.inf, *(count / 2 ** np.arange(1, max(1.0, np.log2(count)) + 1e-9))]
    slower = np.log2(np.maximum(origins / (2 * np.pi * lag * np.array(corners)), 1.0))
    likely = 0.5**slower / (0.5**slower).sum()
    logs = [np.log(chance) + likelihood(np.full((1, count), floor))]
    values = [np.array([floor])]
    for corner, share_of_prior in zip(corners, likely, strict=True):
        shape = 1.0 / (1.0 + (frequency / corner) ** 2)
        psi = floor * (1.0 + np.expm1(fold)[:, None] * shape)
        logs.append(np.log((1.0 - chance) * share_of_prior) + prior + likelihood(psi))
        # of such a noise the mean over the run has this share of what there is at no frequency
        turn = 2 * np.pi * corner
        share = 1.0 + np.expm1(-turn) / turn if np.isfinite(corner) else 1.0
        values.append(floor * (1.0 + np.expm1(fold) * share))
    log = np.concatenate(logs)
    weight = np.exp(log - log.max())
    return rng.choice(np.concatenate(values), draws, p=weight / weight.sum())
