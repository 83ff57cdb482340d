"""Particles as modes and as shells: against each other, closed forms and a fine mesh."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from continuum import cell_particles
from continuum.cell import pybamm
from continuum.cell_particles import particle_memories
from couplers.residual import parameters
from couplers.residual.features import memory_times
from couplers.residual.p2d import P2D, follow
from couplers.residual.parameters import (
    FARADAY,
    STOICHIOMETRIES,
    Cell,
    Electrode,
    read_cell,
)
from couplers.residual.particles import Modes, OfEach, Shells, particles
from couplers.residual.quick import QuickSPMe
from couplers.residual.spme import SPMe


@pytest.fixture(scope="module")
def ecker() -> Cell:
    return read_cell(pybamm.ParameterValues("Ecker2015"))


@pytest.fixture(scope="module")
def marquis() -> Cell:
    return read_cell(pybamm.ParameterValues("Marquis2019"))


def law(electrode: Electrode) -> Electrode:
    """The same electrode, its diffusivity said as a law that happens not to vary."""
    return replace(electrode, diffusivity_ratio=np.ones_like(STOICHIOMETRIES))


def surfaces(kind: Modes | Shells, flux: np.ndarray, step: float) -> np.ndarray:
    """Surface stoichiometries under a flux (time, electrode), after each step."""
    found = []
    for k, now in enumerate(flux):
        now = torch.as_tensor(now)[:, None]
        held, slope = kind.hold(step if k else 0.0)
        kind.take(now)
        found.append((held - slope * now)[:, 0].numpy())
    return np.array(found)


def wave(step: float) -> np.ndarray:
    time = np.arange(0, 400 + step / 2, step)
    swing = 1.5 * np.sin(time / 17) ** 3 + 0.5 * np.sin(time / 90)
    return np.stack([swing, -0.7 * swing], 1)


def test_shells_of_constant_diffusivity_are_the_modes(marquis: Cell) -> None:
    """Both electrodes at once, with ladders of different length; of second order in time."""
    pair = (marquis.negative, marquis.positive)
    assert len(pair[0].memory_rates) != len(pair[1].memory_rates)
    start = torch.tensor([[0.6], [0.4]], dtype=torch.float64)
    apart = []
    for step in (4.0, 2.0, 1.0):
        exact = surfaces(Modes(pair, start), wave(step), step)
        shells = surfaces(Shells([law(e) for e in pair], start), wave(step), step)
        apart.append(np.abs(shells - exact)[-len(exact) // 2 :].max(0))
    moved = np.ptp(exact, axis=0)
    assert (moved > 0.005).all()
    assert (apart[2] < 2e-3 * moved).all()
    order = np.log2(np.array(apart[:-1]) / np.array(apart[1:]))
    assert ((order > 1.6) & (order < 2.6)).all()


def test_shells_conserve_lithium(ecker: Cell) -> None:
    pair = (ecker.negative, ecker.positive)
    start = torch.tensor([[0.7], [0.3]], dtype=torch.float64)
    shells = Shells(pair, start)
    flux = wave(1.0)
    surfaces(shells, flux, 1.0)
    held = (shells.volumes * shells.x).sum(0) / shells.volumes.sum(0)
    charge = np.trapezoid(flux, dx=1.0, axis=0)
    for k, e in enumerate(pair):
        moved = 3 * charge[k] / (FARADAY * e.particle_radius * e.maximum_concentration)
        assert abs(moved) > 1e-3
        assert float(start[k] - held[k]) == pytest.approx(moved, rel=1e-10)
        assert float(shells.mean[k]) == pytest.approx(float(held[k]), abs=1e-12)


def fine_surface(e: Electrode, start: float, flux: Callable[[Any], Any], end: float) -> float:
    """Surface stoichiometry at the end (s) of a flux (A m-2): 400 finite volumes and LSODA."""
    edges = 1 - (1 - np.linspace(0, 1, 401)) ** 1.7
    volume = np.diff(edges**3) / 3
    middle = 0.75 * np.diff(edges**4) / np.diff(edges**3)
    inner = edges[1:-1] ** 2 / np.diff(middle)
    scale = e.particle_diffusivity / e.particle_radius**2
    sites = e.particle_radius * e.maximum_concentration * FARADAY

    def diffusivity(x: np.ndarray) -> np.ndarray:
        return scale * np.interp(x, STOICHIOMETRIES, e.diffusivity_ratio)

    def change(time: float, x: np.ndarray) -> np.ndarray:
        inwards = inner * diffusivity(0.5 * (x[1:] + x[:-1])) * np.diff(x)
        gained = np.append(inwards, -flux(time) / sites)
        gained[1:] -= inwards
        return gained / volume

    found = solve_ivp(
        change,
        (0, end),
        np.full(400, start),
        method="LSODA",
        lband=1,
        uband=1,
        rtol=1e-9,
        atol=1e-11,
        t_eval=[end],
    )
    last = found.y[-1, -1:]
    return float((last - flux(end) / sites / diffusivity(last) * (1 - middle[-1]))[0])


@pytest.mark.parametrize(
    ("side", "start", "modes", "step", "most"),
    [
        ("negative", 0.75, (2, 4, 6), 2.0, 1e-5),
        ("negative", 0.75, (6,), 8.0, 2e-4),
        ("positive", 0.35, (6,), 2.0, 1e-5),
    ],
)
def test_shells_against_a_fine_mesh(
    ecker: Cell,
    monkeypatch: pytest.MonkeyPatch,
    side: str,
    start: float,
    modes: tuple[int, ...],
    step: float,
    most: float,
) -> None:
    """Half of a particle's range, in which the diffusivity changes by several times.

    The error falls much faster than the number of shells rises, and is of second order in time.
    """
    e = getattr(ecker, side)
    sites = FARADAY * e.maximum_concentration * e.particle_radius / 3
    whole = np.copysign(0.5 / 1200 * sites, 0.5 - e.stoichiometry_empty)

    def flux(time: Any) -> Any:
        return whole * (1 + 0.3 * np.sin(time / 60))

    expected = fine_surface(e, start, flux, 1200.0)
    passed = np.interp(np.linspace(start, expected, 50), STOICHIOMETRIES, e.diffusivity_ratio)
    assert passed.max() > 3 * passed.min()
    missed, counts = [], []
    for exact in modes:
        monkeypatch.setattr(cell_particles, "EXACT_MODES", exact)
        rates, weights = particle_memories(
            e.particle_radius,
            e.particle_diffusivity,
            shortest_time=parameters.SHELL_TIME,
            per_decade=parameters.SHELLS_PER_DECADE,
        )
        own = replace(e, memory_rates=rates, memory_weights=weights)
        shells = Shells([own], torch.tensor([[start]], dtype=torch.float64))
        currents = flux(np.arange(0, 1200 + step, step))[:, None]
        missed.append(abs(surfaces(shells, currents, step)[-1, 0] - expected))
        counts.append(len(shells.x))
    assert missed[-1] < most
    assert counts[-1] <= 15
    for before, after in pairwise(missed):
        assert after < before / 3


def test_each_electrode_keeps_its_kind(marquis: Cell) -> None:
    """Only the electrode with a law has shells; the voltage is that of modes in both."""
    mixed = replace(marquis, positive=law(marquis.positive))
    soc = np.array([0.7, 0.4])
    batch = P2D(mixed, soc, points=(6, 3))
    assert isinstance(batch.particles, OfEach)
    assert [type(kind) for kind in batch.particles.kinds] == [Modes, Shells]
    assert isinstance(particles(marquis, batch.start), Modes)
    time = np.arange(61.0)
    current = marquis.capacity * np.stack([np.sin(time / 9), 0.4 - np.cos(time / 14)])
    for model in (P2D, SPMe):
        found = follow(model(mixed, soc, points=(6, 3)), current, time)["voltage"]
        expected = follow(model(marquis, soc, points=(6, 3)), current, time)["voltage"]
        assert np.isfinite(expected).all()
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)
        assert np.abs(found - expected).max() > 1e-9, "another way to reckon"


def test_cells_with_shells_do_not_know_of_each_other(ecker: Cell) -> None:
    """One of them ends at its cut-off, and is put at rest."""
    time = np.arange(61.0)
    current = ecker.capacity * np.stack([np.sin(time / 9), 6.0 + 0 * time])
    soc = np.array([0.7, 0.05])
    batch = P2D(ecker, soc, points=(6, 3))
    together = follow(batch, current, time)
    alone = follow(P2D(ecker, soc[:1], points=(6, 3)), current[:1], time)
    assert int(together["end"][1]) < len(time)
    assert isinstance(batch.particles, Shells)
    np.testing.assert_allclose(batch.particles.x[..., 1], 0.5, atol=1e-12)
    np.testing.assert_allclose(together["voltage"][0], alone["voltage"][0], rtol=0, atol=1e-9)


@pytest.mark.parametrize("constant", ["neither", "negative"])
def test_quick_spme_holds_shells_too(ecker: Cell, constant: str) -> None:
    """In single precision, over half an hour, with a rest; means and surfaces as features are."""
    cell = ecker
    if constant == "negative":
        rates, weights = particle_memories(ecker.negative.particle_radius, 3e-14)
        cell = replace(
            ecker,
            negative=replace(
                ecker.negative,
                particle_diffusivity=3e-14,
                memory_rates=rates,
                memory_weights=weights,
                diffusivity_ratio=None,
            ),
        )
    time = np.arange(0, 1801.0, 10.0)
    rate = np.where(time < 1500, 0.8 + 0.8 * np.sin(time / 50), 0.0)
    soc = np.array([0.95, 0.6])
    current = cell.capacity * np.stack([rate, 0.5 * rate])
    exact = SPMe(cell, soc)
    expected = follow(exact, current, time)["voltage"].values
    quick = QuickSPMe(cell, soc, memory_times=memory_times(cell))
    found = [
        quick.advance(torch.as_tensor(current[:, k]), 10.0 if k else 0.0) for k in range(len(time))
    ]
    assert np.isfinite(expected).all()
    np.testing.assert_allclose(torch.stack(found, 1), expected, rtol=0, atol=2e-4)
    np.testing.assert_allclose(quick.features[:2], exact.mean, atol=2e-6)
