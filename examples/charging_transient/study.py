r"""A blocking cell charges after a step of voltage: how fast, and what it does to the salt.

Two electrodes 2L apart hold a salt between them. After a small step the charge relaxes with the
slowest pole of the linear problem, -s, where

.. math:: k L\, s\, \tau = \tanh(k L), \qquad k = \sqrt{1 - s \tau} / \lambda_D, \qquad
          \tau = \lambda_D^2 / D

which tends to the time :math:`\lambda_D L / D` only where the double layers are thin. A large step
is another matter: the layers take up so much salt that the middle is left poor in it, and the cell
charges more slowly.

    python study.py            # 7 s on one core; writes charging_transient.png

Reference: https://doi.org/10.1103/PhysRevE.70.021506 (Bazant, Thornton, Ajdari 2004).
"""

from pathlib import Path

import numpy as np
import xarray as xr
from scipy.optimize import brentq

from continuum.inputs import Solution, Species, Wall
from continuum.nernst_planck import solve

CONCENTRATION = 1.0  # mol m-3
DIFFUSIVITY = 1e-9  # m2 s-1
RATIO = 0.1  # Debye length over L
SMALL, LARGE = 0.05, 6.0  # steps, in thermal voltages


def salt() -> Solution:
    """Make a 1:1 electrolyte in water."""
    ions = (("K+", 1), ("Cl-", -1))
    return Solution(tuple(Species(name, z, CONCENTRATION, DIFFUSIVITY) for name, z in ions))


def half_width() -> float:
    """Half the distance L (m) between the electrodes."""
    return salt().debye_length / RATIO


def slowest_pole() -> float:
    """Rate (s-1) at which the charge relaxes after a small step."""
    length, debye = half_width(), salt().debye_length
    tau = debye**2 / DIFFUSIVITY

    def mismatch(rate: float) -> float:
        k = np.sqrt(1 - rate * tau) / debye
        return k * length * rate * tau - np.tanh(k * length)

    return float(brentq(mismatch, 1e-6 / tau, 0.9 / tau, xtol=1e-14 / tau))


def charge(step: float, times: np.ndarray, *, tolerance: float = 1e-7) -> xr.Dataset:
    """Step the electrodes to plus and minus `step` thermal voltages and follow the ions."""
    volt = step * salt().thermal_voltage
    walls = {"left": Wall(potential=-volt), "right": Wall(potential=volt)}
    return solve(salt(), walls, length=2 * half_width(), times=times, tolerance=tolerance)


def rate(run: xr.Dataset) -> float:
    """Rate (s-1) at which the charge of a run approaches its last value, at late times."""
    q = run["surface_charge"].sel(wall="right")
    gap = np.log((q[-1] - q[:-1]) / q[-1])
    late = (gap < -1.5) & (gap > -5.0)
    return -float(np.polyfit(q.time[:-1][late], gap[late], 1)[0])


def draw(runs: dict[float, xr.Dataset], path: Path) -> None:
    """Plot the charge through time and the salt that the middle is left with."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 4), layout="constrained")
    unit = salt().debye_length * half_width() / DIFFUSIVITY
    for (step, run), colour in zip(runs.items(), ("#4477aa", "#cc6677"), strict=True):
        q = run["surface_charge"].sel(wall="right")
        label = f"±{step:g} RT/F"
        left.plot(run.time / unit, q / q[-1], color=colour, label=label)
        total = run["concentration"].sum("species") / (2 * CONCENTRATION)
        right.plot(run.x / half_width() - 1, total.isel(time=-1), color=colour, label=label)
    left.set(xlabel="time (λL/D)", ylabel="charge over its last value")
    right.set(xlabel="position (L)", ylabel="salt over its bulk value", ylim=(0, 2))
    left.legend()
    figure.savefig(path, dpi=150)
    plt.close(figure)


if __name__ == "__main__":
    pole = slowest_pole()
    times = np.linspace(0.1, 12.0, 120) / pole
    runs = {step: charge(step, times) for step in (SMALL, LARGE)}
    print(f"slowest pole {pole:.6g} 1/s; small step {rate(runs[SMALL]):.6g} 1/s")
    print(f"asymptote D/(λL) {DIFFUSIVITY / (salt().debye_length * half_width()):.6g} 1/s")
    middle = runs[LARGE]["concentration"].isel(time=-1).sel(x=half_width(), method="nearest")
    print(f"large step: {float(middle.sum()) / (2 * CONCENTRATION):.3f} of the salt stays there")
    path = Path(__file__).with_name("charging_transient.png")
    draw(runs, path)
    print(f"figure: {path.name}")
