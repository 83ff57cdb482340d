"""The batched P2D and SPMe against exact answers and against PyBaMM in its converged limit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from continuum.cell import pybamm
from continuum.cell_particles import particle_memories
from couplers.residual.corrector import SHIPPED
from couplers.residual.layers import Salt, tridiagonal
from couplers.residual.p2d import P2D, follow
from couplers.residual.parameters import Cell, read_cell
from couplers.residual.spme import SPMe

# what is shipped was learnt from this P2D; the particles of Ecker2015 are shells
SETS = sorted({path.stem for path in SHIPPED.glob("*.npz")} | {"Ecker2015"})


@pytest.fixture(scope="module")
def cells() -> dict[str, Cell]:
    return {name: read_cell(pybamm.ParameterValues(name)) for name in SETS}


def drive(seconds: int) -> tuple[np.ndarray, np.ndarray]:
    """Noise, a rest, a pulse, a charge; C-rates."""
    rng = np.random.default_rng(0)
    time = np.arange(seconds + 1.0)
    walk = np.cumsum(rng.normal(size=time.size))
    walk -= np.linspace(0, walk[-1], time.size)
    rate = 0.5 + walk / np.abs(walk).max()
    rate[20:30], rate[32:40], rate[90:110] = 0.0, 2.0, -1.0
    return time, rate


def pybamm_voltage(
    model: pybamm.BaseModel,
    name: str,
    time: np.ndarray,
    current: np.ndarray,
    *,
    points: int,
    radial: int,
    temperature: float | None = None,
) -> np.ndarray:
    values = pybamm.ParameterValues(name)
    if temperature is not None:
        values["Ambient temperature [K]"] = values["Initial temperature [K]"] = temperature
    values.set_initial_state(0.7)
    values["Current function [A]"] = pybamm.Interpolant(time, current, pybamm.t)
    submeshes = dict(model.default_submesh_types)
    for domain in ("negative particle", "positive particle"):
        submeshes[domain] = pybamm.MeshGenerator(
            pybamm.Exponential1DSubMesh, {"side": "right", "stretch": 4.0}
        )
    simulation = pybamm.Simulation(
        model,
        parameter_values=values,
        submesh_types=submeshes,
        var_pts={"x_n": points, "x_s": points // 2, "x_p": points, "r_n": radial, "r_p": radial},
        solver=pybamm.IDAKLUSolver(rtol=1e-7, atol=1e-9, output_variables=["Voltage [V]"]),
    )
    return simulation.solve([0, time[-1]], t_interp=time)["Voltage [V]"].entries


@pytest.mark.parametrize(
    ("name", "temperature"),
    [*((name, None) for name in SETS), ("OKane2022", 278.15), ("Marquis2019", 318.15)],
)
def test_p2d_is_pybamms_dfn_on_a_mesh_without_end(
    cells: dict[str, Cell], name: str, temperature: float | None
) -> None:
    """PyBaMM's voltage is of first order in x and second in r: extrapolate both to zero."""
    cell = cells[name]
    if temperature is not None:
        cell = read_cell(pybamm.ParameterValues(name), temperature=temperature)
    time, rate = drive(40)
    current = rate * cell.capacity
    run = [
        pybamm_voltage(
            pybamm.lithium_ion.DFN(),
            name,
            time,
            current,
            points=x,
            radial=r,
            temperature=temperature,
        )
        for x, r in ((12, 16), (24, 16), (12, 32))
    ]
    limit = 2 * run[1] - run[0] + (run[2] - run[0]) * 4 / 3
    ours = follow(P2D(cell, np.array([0.7]), points=(32, 16)), current[None], time)
    error = np.sqrt(np.mean((ours["voltage"].values[0] - limit) ** 2))
    assert error < 1e-4
    assert error < 0.5 * np.sqrt(np.mean((run[0] - limit) ** 2)), "as a mesh of PyBaMM's"


@pytest.mark.parametrize("name", SETS)
def test_spme_is_pybamms_composite_one(cells: dict[str, Cell], name: str) -> None:
    cell = cells[name]
    time, rate = drive(120)
    current = rate * cell.capacity
    model = pybamm.lithium_ion.SPMe()
    expected = pybamm_voltage(model, name, time, current, points=50, radial=50)
    ours = follow(SPMe(cell, np.array([0.7]), points=(32, 16)), current[None], time)
    assert np.sqrt(np.mean((ours["voltage"].values[0] - expected) ** 2)) < 1e-4


def test_p2d_converges_in_space_and_time(cells: dict[str, Cell]) -> None:
    cell = cells["Chen2020"]
    time, rate = drive(60)

    def voltage(points: int, step: float) -> np.ndarray:
        grid = np.arange(0, 60 + step / 2, step)
        current = cell.capacity * np.interp(grid, time, rate)
        batch = P2D(cell, np.array([0.7]), points=(points, points // 2))
        return follow(batch, current[None], grid)["voltage"].values[0][:: round(1 / step)]

    coarse, middle, fine = (voltage(n, 1.0) for n in (8, 16, 32))
    order = np.log2(np.linalg.norm(middle - coarse) / np.linalg.norm(fine - middle))
    assert 1.7 < order < 2.6
    assert np.abs(voltage(8, 0.5) - coarse).max() < 5e-5


def test_cells_of_a_batch_do_not_know_of_each_other(cells: dict[str, Cell]) -> None:
    cell = cells["Chen2020"]
    time, rate = drive(60)
    current = cell.capacity * np.stack([rate, -0.3 * rate, 6.0 + 0 * rate])
    soc = np.array([0.7, 0.4, 0.05])
    drawn = {"diffusivity_scale": np.array([1.0, 0.6, 1.0])}
    together = follow(P2D(cell, soc, electrolyte=drawn, points=(8, 4)), current, time)
    for k in range(3):
        own = {name: values[k : k + 1] for name, values in drawn.items()}
        alone = follow(
            P2D(cell, soc[k : k + 1], electrolyte=own, points=(8, 4)), current[k : k + 1], time
        )
        np.testing.assert_allclose(together["voltage"][k], alone["voltage"][0], rtol=0, atol=1e-9)
    assert int(together["end"][2]) < len(time), "the empty cell must reach its cut-off"
    assert np.isfinite(together["voltage"][:2]).all()


def test_lithium_and_salt_are_conserved(cells: dict[str, Cell]) -> None:
    cell = cells["Chen2020"]
    time, rate = drive(120)
    batch = P2D(cell, np.array([0.7]), points=(8, 4))
    before = batch.mean.mean(0)[:, 0].clone()
    current = cell.capacity * rate
    follow(batch, current[None], time)
    salt = (batch.salt.widths * batch.salt.porosity * batch.salt_now).sum()
    expected = (batch.salt.widths * batch.salt.porosity).sum() * cell.concentration
    assert float(salt / expected) == pytest.approx(1, abs=1e-12)
    share = batch.local / batch.local.sum(0)
    moved = (share * batch.mean).sum(0)[:, 0] - before
    charge = np.trapezoid(current, time)
    for electrode, side, sign in ((cell.negative, 0, -1), (cell.positive, 1, 1)):
        sites = (
            electrode.maximum_concentration
            * electrode.area_density
            * electrode.particle_radius
            / 3
            * electrode.thickness
            * cell.area
            * 96485.33212
        )
        assert float(moved[side]) == pytest.approx(sign * charge / sites, rel=1e-9)


def test_relaxes_to_the_open_circuit_voltage(cells: dict[str, Cell]) -> None:
    """After a pulse and a long rest, the voltage is the potential difference at the means."""
    cell = cells["Marquis2019"]
    time = np.concatenate([np.arange(0, 61.0), np.geomspace(62, 2e5, 120)])
    current = np.where(time < 60, 2 * cell.capacity, 0.0)
    batch = P2D(cell, np.array([0.6]), points=(8, 4))
    voltage = follow(batch, current[None], time)["voltage"].values[0]
    single = SPMe(cell, np.array([0.6]), points=(8, 4))
    rested = follow(single, current[None], time)["voltage"].values[0]
    assert voltage[-1] == pytest.approx(rested[-1], abs=2e-5)
    assert abs(voltage[60] - rested[60]) > 1e-3


def test_a_single_ion_conductor_has_no_thermodynamic_factor() -> None:
    """The cation carries all current: salt stays as it is, and ohmic losses are what is left."""
    cell = read_cell(pybamm.ParameterValues("Li6PS5Cl from atoms"))
    assert cell.transference_number == 1
    time = np.arange(0, 121.0, 10.0)
    current = np.full((1, time.size), 0.5 * cell.capacity)
    batch = P2D(cell, np.array([0.7]), points=(8, 4))
    found = follow(batch, current, time)["voltage"].values
    single = follow(SPMe(cell, np.array([0.7]), points=(8, 4)), current, time)["voltage"].values
    np.testing.assert_allclose(batch.salt_now, cell.concentration, rtol=1e-12)
    np.testing.assert_allclose(found, single, rtol=0, atol=2e-3)


def test_memories_are_a_diffusing_sphere() -> None:
    """The step response of Crank's series, and its short-time law 2 sqrt(s / pi)."""
    radius, diffusivity = 5e-6, 4e-15
    rates, weights = particle_memories(radius, diffusivity)
    assert weights.sum() == pytest.approx(0.2, abs=1e-12)
    assert len(rates) < 25
    count = 20000
    half = (np.arange(1, count + 1) + 0.5) * np.pi
    roots = half - 1 / half - 2 / (3 * half**3)
    roots[:6] = np.sqrt(rates[:6] * radius**2 / diffusivity)
    time = np.geomspace(0.05, 1e4, 50)
    s = time * diffusivity / radius**2
    series = (2 / roots**2 * -np.expm1(-np.outer(s, roots**2))).sum(1)
    ours = (weights * -np.expm1(-np.outer(time, rates))).sum(1)
    np.testing.assert_allclose(ours, series, rtol=0, atol=5e-5)
    early = s < 1e-5
    np.testing.assert_allclose(ours[early], 2 * np.sqrt(s[early] / np.pi), rtol=0.03)


def test_salt_step_is_exact_for_a_mode(cells: dict[str, Cell]) -> None:
    """A cosine in a uniform layer decays by the discrete Laplacian's own rate, to second order."""
    uniform = cells["Marquis2019"]
    layer = replace(
        uniform,
        negative=replace(uniform.negative, thickness=2e-4, porosity=0.3, electrolyte_transport=0.2),
        positive=replace(uniform.positive, thickness=2e-4, porosity=0.3, electrolyte_transport=0.2),
        separator_thickness=1e-4,
        separator_porosity=0.3,
        separator_transport=0.2,
        diffusivity=np.full_like(uniform.diffusivity, 3e-10),
    )
    salt = Salt(layer, (20, 10), 1e-9)
    x = salt.widths.cumsum(0) - salt.widths / 2
    length = 5e-4
    mode = torch.cos(np.pi * x / length)
    width = length / 50
    decay = 4 * 3e-10 * 0.2 / 0.3 / width**2 * np.sin(np.pi * width / (2 * length)) ** 2
    now, step = 1000 + 100 * mode, 20.0
    for _ in range(10):
        now = salt.step(now, now, torch.zeros_like(now), torch.ones(1), step, 0.5)
    expected = ((1 - decay * step / 2) / (1 + decay * step / 2)) ** 10
    np.testing.assert_allclose((now - 1000) / 100, expected * mode, rtol=0, atol=1e-9)


def test_tridiagonal_against_dense() -> None:
    rng = np.random.default_rng(1)
    lower, upper = (torch.as_tensor(rng.normal(size=(6, 3))) for _ in range(2))
    diagonal, right = (torch.as_tensor(5 + rng.normal(size=(7, 3))) for _ in range(2))
    x = tridiagonal(lower, diagonal, upper, right)
    for k in range(3):
        dense = np.diag(diagonal[:, k]) + np.diag(lower[:, k], -1) + np.diag(upper[:, k], 1)
        np.testing.assert_allclose(dense @ x[:, k].numpy(), right[:, k], atol=1e-12)


def test_refuses_what_it_cannot_hold() -> None:
    wrong = pybamm.ParameterValues("Chen2020")
    wrong["Negative particle diffusivity [m2.s-1]"] = lambda x, T: 1e-14 * (0.9 - x)
    wrong["Positive particle diffusivity [m2.s-1]"] = -1e-15
    said = "negative particle's diffusivity is not positive at .* from 0.9 to 1;"
    with pytest.raises(ValueError, match=said) as error:
        read_cell(wrong)
    assert "positive particle's" in str(error.value), "all faults at once"
    lacking = pybamm.ParameterValues("Chen2020")
    del lacking["Separator thickness [m]"]
    with pytest.raises(ValueError, match="no full lithium-ion cell: .*Separator thickness"):
        read_cell(lacking)
    with pytest.raises(ValueError, match="diffusivity_scal"):
        P2D(
            read_cell(pybamm.ParameterValues("Chen2020")),
            np.array([0.5]),
            electrolyte={"diffusivity_scal": np.array([1.0])},
        )
