r"""Currents to learn from and to be judged by, all of our own making: nothing is fetched.

A profile is a current in units of the C-rate (1, discharge positive) at points of time (s), linear
in between; it may jump at time 0. Drive cycles come from a speed and the power that a car takes,

.. math:: P = v \,(m \dot v + c_0 + c_2 v^2)

and are scaled to a peak. They have the published length, stops and liveliness of the test cycles
that they are named after, not those cycles' values.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

MASS, ROLLING, DRAG = 1600.0, 160.0, 0.42  # kg, N, N s2 m-2
REGENERATION = 0.6  # of the braking power that comes back, at most


def drive(
    seed: int,
    *,
    duration: int,
    top_speed: float,
    acceleration: float,
    stops: int,
    liveliness: float,
) -> np.ndarray:
    """Power of a car on a made-up trip, one value a second, 1 at its peak; discharge positive.

    Parameters
    ----------
    seed : int
        Seed (1) of the trip.
    duration : int
        Length (s).
    top_speed : float
        Highest speed (m s-1), reached once in the trip.
    acceleration : float
        Typical acceleration (m s-2).
    stops : int
        How often (1) the car stands still in between.
    liveliness : float
        Standard deviation (m s-1) of the speed about its course.
    """
    rng = np.random.default_rng(seed)
    edges = np.sort(rng.uniform(0.05, 0.95, stops)) * duration
    edges = np.concatenate([[0.0], edges, [duration]])
    t = np.arange(duration + 1.0)
    speed = np.zeros_like(t)
    heights = rng.uniform(0.35, 1.0, len(edges) - 1)
    heights[rng.integers(len(heights))] = 1.0
    for start, end, height in zip(edges[:-1], edges[1:], heights, strict=True):
        wait = min(rng.uniform(3, 20), 0.2 * (end - start))
        rise = acceleration * rng.uniform(0.6, 1.2) * np.clip(t - start - wait, 0, None)
        fall = acceleration * rng.uniform(0.7, 1.4) * np.clip(end - t, 0, None)
        inside = (t >= start) & (t < end)
        speed[inside] = np.minimum(height * top_speed, np.minimum(rise, fall))[inside]
    wander = np.zeros_like(t)
    noise = rng.normal(size=t.size)
    for k in range(1, t.size):
        wander[k] = 0.95 * wander[k - 1] + np.sqrt(1 - 0.95**2) * noise[k]
    speed = np.clip(speed + liveliness * wander * (speed > 0.1 * top_speed), 0, None)
    for _ in range(3):  # a car has no jerks of a second
        speed[1:-1] = 0.25 * speed[:-2] + 0.5 * speed[1:-1] + 0.25 * speed[2:]
    power = speed * (MASS * np.gradient(speed) + ROLLING + DRAG * speed**2)
    power = np.where(power < 0, REGENERATION * power, power)
    # a motor has a highest power: it is met often, not once
    return np.clip(power / (0.5 * power.max()), -0.6, 1.0)


def us06_like(seed: int = 6) -> np.ndarray:
    """600 s at high speed with hard accelerations, in the manner of the US06 cycle."""
    return drive(seed, duration=600, top_speed=35.9, acceleration=2.2, stops=5, liveliness=0.9)


def wltc_like(seed: int = 3) -> np.ndarray:
    """1800 s from town to motorway, in the manner of the WLTC class 3 cycle."""
    phases = [
        drive(seed, duration=589, top_speed=15.7, acceleration=1.2, stops=8, liveliness=0.4),
        drive(seed + 1, duration=433, top_speed=21.3, acceleration=1.2, stops=4, liveliness=0.5),
        drive(seed + 2, duration=455, top_speed=27.1, acceleration=1.1, stops=2, liveliness=0.6),
        drive(seed + 3, duration=323, top_speed=36.5, acceleration=1.2, stops=1, liveliness=0.6),
    ]
    shares = (0.45, 0.6, 0.75, 1.0)
    parts = [share * phase[:-1] for share, phase in zip(shares, phases, strict=True)]
    return np.append(np.concatenate(parts), 0.0)


def hppc(*, pulse: float, base: float = 1.0, repeats: int = 3) -> np.ndarray:
    """Rest, 10 s discharge pulse, 40 s rest, 10 s charge pulse, rest, then a stretch at `base`.

    `pulse` and `base` in C-rates (1); one value a second.
    """
    once = np.concatenate(
        [
            np.zeros(30),
            np.full(10, pulse),
            np.zeros(40),
            np.full(10, -0.75 * pulse),
            np.zeros(60),
            np.full(200, base),
            np.zeros(100),
        ]
    )
    return np.append(np.tile(once, repeats), 0.0)


def pulses(rng: np.random.Generator, points: int, highest: float) -> np.ndarray:
    """Steps of random height and of 2 to 150 s, one value a second."""
    current, k = np.zeros(points), 0
    middle, spread = rng.uniform(-0.3, 0.8), rng.uniform(0.3, 1.2) * highest / 2
    while k < points:
        length = int(np.exp(rng.uniform(np.log(2), np.log(150))))
        height = 0.0 if rng.random() < 0.2 else middle + spread * rng.normal()
        current[k : k + length] = np.clip(height, -0.5 * highest, highest)
        k += length
    return current


def wandering(rng: np.random.Generator, points: int, highest: float) -> np.ndarray:
    """Noise with a random correlation time of 3 to 200 s, one value a second."""
    tau = np.exp(rng.uniform(np.log(3), np.log(200)))
    spread, middle = rng.uniform(0.3, 1.0) * highest / 2, rng.uniform(-0.2, 0.7)
    noise, x = rng.normal(size=points), np.zeros(points)
    for k in range(1, points):
        x[k] = x[k - 1] * np.exp(-1 / tau) + np.sqrt(1 - np.exp(-2 / tau)) * noise[k]
    return np.clip(middle + spread * x, -0.5 * highest, highest)


def driving(rng: np.random.Generator, points: int, highest: float) -> np.ndarray:
    """A random trip of a random car, one value a second."""
    power = drive(
        int(rng.integers(1000, 2**31)),
        duration=max(points - 1, 300),
        top_speed=rng.uniform(12, 38),
        acceleration=rng.uniform(0.8, 2.5),
        stops=int(rng.integers(1, 12)),
        liveliness=rng.uniform(0.2, 1.2),
    )
    return np.clip(
        rng.uniform(0.4, 1.0) * highest * power[:points] + rng.uniform(-0.1, 0.2),
        -0.6 * highest,
        highest,
    )


def testing(rng: np.random.Generator, points: int, highest: float) -> np.ndarray:
    """An HPPC test of random heights and start, one value a second."""
    once = hppc(pulse=rng.uniform(0.3, 1.0) * highest, base=rng.uniform(0.2, 1.0), repeats=1)
    stretched = np.tile(once, int(np.ceil((points + len(once)) / len(once))))
    start = int(rng.integers(len(once)))
    return stretched[start : start + points]


FAST: tuple[Callable[[np.random.Generator, int, float], np.ndarray], ...] = (
    pulses,
    driving,
    wandering,
    testing,
)


def steady(
    rng: np.random.Generator,
    time: np.ndarray,
    highest: float,
    *,
    spared: tuple[tuple[float, float], ...] = (),
) -> tuple[np.ndarray, float]:
    """A constant current, perhaps with a rest, a second current or a taper; and the start.

    Parameters
    ----------
    rng : numpy.random.Generator
        Where the choices come from.
    time : numpy.ndarray
        Points of time (s).
    highest : float
        Highest C-rate (1) of a discharge.
    spared : tuple of pairs
        Ranges of the C-rate (1) that no discharge may have.

    Returns
    -------
    current, state_of_charge
        Current in C-rates (1) at each point of time; state of charge at the start (1).
    """
    charge = rng.random() < 0.3
    while True:
        rate = rng.uniform(0.15, 1.0 if charge else highest)
        if not any(low < rate < high for low, high in spared):
            break
    current = np.full_like(time, -rate if charge else rate)
    lasting = 3600 / rate
    choice = rng.random()
    turn = rng.uniform(0.1, 0.8) * min(lasting, time[-1])
    if charge:
        start = rng.uniform(0.02, 0.5)
        if choice < 0.5:
            tau = rng.uniform(200, 1500)
            late = time > turn
            current[late] = -rate * np.exp(-(time[late] - turn) / tau)
    else:
        start = 1.0 if rng.random() < 0.5 else rng.uniform(0.3, 1.0)
    if choice >= 0.75:
        current[time > turn] = 0.0
    elif choice >= 0.6:
        current[time > turn] = -0.5 * rate if not charge else 0.5
    return current, start


def slow_times(duration: float, *, step: float = 10.0) -> np.ndarray:
    """Points of time (s) for a current that changes seldom: dense at first, then `step`."""
    first = np.array([0.0, 0.5, 1.0, 2.0, 3.0, 5.0, 8.0, 12.0, 17.0, 24.0])
    return np.concatenate([first, np.arange(first[-1] + step, duration + step / 2, step)])
