r"""How much of their motion particles share: M/M_eff, by which a variance is too small."""

from __future__ import annotations

import numpy as np

FEWEST = 4  # ordinates of the narrowest band


def low_frequency_power(position: np.ndarray, ordinates: int) -> np.ndarray:
    r"""Return the periodogram of the velocity of each particle, (replica, atom, frequency).

    .. math:: I_i(k) = |\sum_n \Delta r_i(n) e^{-2\pi i k n/N}|^2, \qquad k = 1 \dots K
    """
    step = np.diff(position, axis=1)
    frequency = np.arange(1, ordinates + 1)[:, None] * np.arange(step.shape[1]) / step.shape[1]
    wave = np.exp(-2j * np.pi * frequency)
    amplitude = np.einsum("kf,rfax->rakx", wave, step, optimize=True)
    return (np.abs(amplitude) ** 2).sum(-1)


def inflation(power: np.ndarray) -> tuple[float, int]:
    r"""Return M/M_eff, how much correlation between particles inflates a variance, and its dof.

    Neighbouring ordinates of a smooth spectrum differ by noise alone, so the variance of the
    difference summed over particles, over the sum of the particles' own variances, is 1 when the
    particles are independent, whatever their dynamics:

    .. math:: \frac{M}{M_\mathrm{eff}} =
              \frac{\langle (\sum_i \Delta I_i)^2 \rangle}{\langle \sum_i (\Delta I_i)^2 \rangle}

    Parameters
    ----------
    power : numpy.ndarray
        Periodograms, (replica, atom, frequency), an even number of frequencies.
    """
    pair = power[..., 1::2] - power[..., 0:-1:2]
    together, apart = (pair.sum(1) ** 2).mean(), (pair**2).sum(1).mean()
    factor = float(together / apart) if apart > 0 else 1.0  # 0 for atoms that never move
    return max(1.0, factor), pair.shape[0] * pair.shape[2]


def shared_fluctuation(track: np.ndarray, lag: int) -> tuple[float, int]:
    r"""Return M/M_eff of squared displacements over a lag, and its degrees of freedom.

    .. math:: \frac{M}{M_\mathrm{eff}} = \frac{\sum_k |\sum_i \hat Y_i(k)|^2}
              {\sum_k \sum_i |\hat Y_i(k)|^2}, \qquad
              Y_i(s) = |r_i(s + t) - r_i(s)|^2, \qquad k < 1/2t

    In a dense liquid particles share what makes all of them faster for a while: temperature, free
    volume, the flow of their surroundings. It moves the height of every particle's spectrum at
    once, which neighbouring ordinates do not show, but squared displacements followed from origin
    to origin do. What is shared may be slower than t, so the band is halved as long as the lower
    half gives more by two standard errors.

    Parameters
    ----------
    track : numpy.ndarray
        Positions (m), (replica, frame, atom, xyz).
    lag : int
        Lag t (frames), where diffusion begins.
    """
    square = np.square(track[:, lag:] - track[:, :-lag]).sum(-1)
    square -= square.mean(1, keepdims=True)
    ordinates = max(1, min(square.shape[1] // (2 * lag), (square.shape[1] - 1) // 2))
    wave = np.fft.rfft(square, axis=1)[:, 1 : ordinates + 1]
    apart = (np.abs(wave) ** 2).sum((0, 2))
    together = (np.abs(wave.sum(2)) ** 2).sum(0)
    if not apart.sum() > 0:
        return 1.0, 2 * ordinates * len(track)
    factor, half = float(together.sum() / apart.sum()), ordinates // 2
    while half >= FEWEST:
        slower = float(together[:half].sum() / apart[:half].sum())
        if slower > factor * (1 + 2 / np.sqrt(half * len(track))):
            factor, ordinates = slower, half
        half //= 2
    return max(1.0, factor), 2 * ordinates * len(track)
