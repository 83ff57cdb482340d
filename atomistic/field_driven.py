r"""Ions driven by a uniform electric field: conductivity and mobilities from drift.

The third route beside displacements and Green-Kubo, and the only one that sees where the response
stops being linear. The field puts in heat, and a thermostat that rescaled all velocities would
brake the drift as well; the one here touches only the two directions across the field.

A response is never quite linear: an ion that hops over a length l is pulled over by
:math:`x = z e E l / 2 k_B T`, and drifts as :math:`\sinh(x) / x` times its mobility. Fields that
show in a short run, of some 4e8 V/m, have x near one half, which is five per cent and less than the
noise of a test of linearity. So the curvature is estimated with the slope, and what is not
known of it is in the error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch_sim as ts
import xarray as xr
from ase import Atoms
from scipy import constants, stats
from torch_sim.integrators.md import MDState, velocity_verlet_step
from torch_sim.integrators.nvt import nvt_vrescale_init
from torch_sim.units import MetalUnits

from atomistic.dynamics import THERMOSTAT_TIME, Progress, Schedule, UnstableDynamics
from atomistic.potentials.compose import Sum
from atomistic.potentials.field import UniformField
from atomistic.potentials.load import Potential
from atomistic.units import ANGSTROM, NEUTRAL, PICOSECOND

BLOCKS = 5  # pieces of each run whose means give the error
SIGNIFICANT = 0.01  # chance of calling a linear response nonlinear
TOO_HOT = 3.0  # times the target temperature, along the field
HOPS, STRONGEST = 400, 30.0  # lengths of a hop that are tried, and most work on one in 2 kT


def across_rescale(state: MDState, direction: torch.Tensor, kT: torch.Tensor, ratio: float) -> None:
    r"""Rescale momenta across a direction stochastically, in place; those along it stay.

    The velocity-rescaling thermostat of Bussi, Donadio and Parrinello for the :math:`2N - 2`
    momenta across the field.

    Parameters
    ----------
    state : torch_sim MDState
        Equal systems with their centre of mass at rest across the field.
    direction : torch.Tensor
        Unit vector of the field, (3,).
    kT : torch.Tensor
        Thermal energy of each system (eV).
    ratio : float
        Step over relaxation time.

    References
    ----------
    Bussi, Donadio, Parrinello, J. Chem. Phys. 126, 014101 (2007),
    https://doi.org/10.1063/1.2408420
    """
    along = (state.momenta @ direction)[:, None] * direction
    across = state.momenta - along
    systems = len(kT)
    kinetic = (across.square() / (2 * state.masses[:, None])).sum(1).reshape(systems, -1)
    now, freedom = kinetic.sum(1), 2 * kinetic.shape[1] - 2
    shape = torch.full_like(now, (freedom - 1) / 2)
    one = torch.randn(systems, dtype=now.dtype, device=now.device, generator=state.rng)
    rest = 2 * torch._standard_gamma(shape, generator=state.rng)
    keep = float(np.exp(-ratio))
    new = (1 - keep) * kT / (2 * now)
    scale = keep + new * (one.square() + rest) + 2 * one * torch.sqrt(keep * new)
    state.momenta = along + across * scale.sqrt()[state.system_idx][:, None]


def field_driven(
    structures: Sequence[Atoms],
    potential: Potential,
    *,
    charges: Mapping[str, float],
    fields: Sequence[float],
    temperature: float,
    schedule: Schedule,
    direction: Sequence[float] = (0.0, 0.0, 1.0),
    draws: int = 400,
    seed: int = 0,
    progress: Progress | None = None,
) -> xr.Dataset:
    r"""Conductivity (S m-1) and mobilities (m2 V-1 s-1) from the drift in a uniform field.

    .. math::
        j(E) = \frac{e}{V} \sum_i z_i \langle v_i \cdot \hat E \rangle
              = \sigma E\, \frac{\sinh x}{x}, \quad x = \frac{z e E l}{2 k_B T}, \qquad
              u_s = \lim_{E \to 0} \frac{\langle v_s \cdot \hat E \rangle}{E}

    Every field is run with both signs, which cancels what is even in it, all fields and replicas
    in one batch. Errors come from the scatter of block means of the replicas. Sigma is the slope
    at zero field, averaged over the length l of Eyring's hop, from none (ions that only drift) to
    the distance of two ions of one kind, each as probable as the data leave it (`_at_zero_field`).
    If no such law fits (F test at 1 %), :math:`\sigma E + \beta E^3` is fitted. A response that is
    no straight line by the same test is called nonlinear.

    Parameters
    ----------
    structures : sequence of Atoms
        Equilibrated replicas of one liquid, with the same atoms in the same order.
    potential : Potential
        What drives the dynamics.
    charges : mapping of str to float
        Charge number of each element (1), on which the field pulls; neutral altogether.
    fields : sequence of float
        Field strengths (V m-1), positive; two or more for a test of linearity. In a melt 2e8 to
        6e8 V/m shows in some ten picoseconds; the strongest are what the bend is known from.
    temperature : float
        Temperature (K).
    schedule : Schedule
        Its equilibration passes with the field on and is left out.
    direction : sequence of float
        Direction of the field.
    draws : int
        Draws of sigma and the mobilities.
    seed : int
        Seed of velocities, thermostat and draws.
    progress : callable, optional
        Called with (steps done, steps in all, what is running).

    Returns
    -------
    xarray.Dataset
        ``current_density`` (A m-2), ``drift_velocity`` (species, field) (m s-1), relative to the
        centre of mass, ``temperature_along`` and ``temperature_across`` (K) by ``field`` (V m-1);
        ``conductivity`` and ``mobility`` (species) with ``_std`` and ``_draw``;
        ``nonlinearity_probability`` (1), the chance of so much curvature were the response linear
        (nan for one field); ``linear``; ``curvature`` (1) with ``_std``,
        by how much j exceeds :math:`\sigma E` at the strongest field; attribute ``verdict``.

    Raises
    ------
    ValueError
        Lists what is wrong with fields, charges or direction.
    UnstableDynamics
        If the field heats the ions faster than they share it: three times the target along it.

    References
    ----------
    Eyring, J. Chem. Phys. 4, 283 (1936), https://doi.org/10.1063/1.1749836
    """
    symbols = structures[0].get_chemical_symbols() if structures else []
    strength = np.asarray(fields, float)
    unit = np.asarray(direction, float)
    faults = []
    if not structures or any(one.get_chemical_symbols() != symbols for one in structures):
        faults.append("structures must be replicas of the same atoms in the same order")
    if strength.ndim != 1 or not len(strength) or not (strength > 0).all():
        faults.append(f"fields are {list(fields)} V/m, but must be positive")
    if missing := sorted({name for name in symbols if name not in charges}):
        faults.append(f"no charge is given for {', '.join(missing)}")
    elif abs(sum(charges[name] for name in symbols)) > NEUTRAL * len(symbols):
        faults.append(
            f"the ions carry {sum(charges[name] for name in symbols):+g} e, but must be neutral, "
            "or the whole drifts off"
        )
    if unit.shape != (3,) or not np.linalg.norm(unit) > 0:
        faults.append(f"direction is {list(direction)}, expected a vector of three")
    if faults:
        raise ValueError("field_driven: " + "; ".join(faults) + ".")
    unit = unit / np.linalg.norm(unit)
    potential.check_elements(structures)
    signed = np.concatenate([strength, -strength])
    batch = [atoms for _ in signed for atoms in structures]
    base = potential.model
    state = ts.io.atoms_to_state(batch, base.device, base.dtype)
    state.rng = seed
    along = torch.as_tensor(unit, dtype=base.dtype, device=base.device)
    pull = torch.as_tensor(
        np.repeat(signed, len(structures)) * ANGSTROM, dtype=base.dtype, device=base.device
    )
    pulled = UniformField(pull[:, None] * along, charges, device=base.device, dtype=base.dtype)
    model = Sum([base, pulled])
    thermal = temperature * float(MetalUnits.temperature)
    kT = torch.full((len(batch),), thermal, dtype=base.dtype, device=base.device)
    momenta = np.concatenate([atoms.get_momenta() for atoms in batch])
    if momenta.any():
        state.momenta = torch.as_tensor(momenta, dtype=base.dtype, device=base.device)
    moving = nvt_vrescale_init(state, model, kT=kT)
    kinds = list(dict.fromkeys(symbols))
    belongs = torch.tensor([[name == kind for name in symbols] for kind in kinds])
    belongs = belongs.to(base.dtype).to(base.device)
    belongs = belongs / belongs.sum(1, keepdim=True)
    step = torch.tensor(schedule.timestep * 1e-3 * float(MetalUnits.time), dtype=base.dtype)
    total = schedule.warm_up + schedule.frames * schedule.stride
    drift, heat = [], []
    for done in range(1, total + 1):
        across_rescale(moving, along, kT, schedule.timestep / THERMOSTAT_TIME)
        moving = velocity_verlet_step(state=moving, dt=step, model=model)
        since = done - schedule.warm_up
        if done % schedule.stride:
            continue
        mean, hot = _look(moving, along, belongs, thermal)
        if not np.isfinite(hot).all() or (hot[:, 0] > TOO_HOT).any():
            worst = int(np.nan_to_num(hot[:, 0], nan=np.inf).argmax()) // len(structures)
            raise UnstableDynamics(
                f"A field of {abs(signed[worst]):.2g} V/m heats the ions along it to "
                f"{np.nan_to_num(hot[:, 0], nan=np.inf).max():.1f} times the target after "
                f"{done * schedule.timestep / 1000:.2f} ps; use weaker fields."
            )
        if progress is not None:
            progress(done, total, "driven by a field")
        if since > 0:
            drift.append(mean)
            heat.append(hot)
    velocity = np.moveaxis(np.array(drift), 0, 1) * ANGSTROM / PICOSECOND * float(MetalUnits.time)
    shape = (2, len(strength), len(structures))
    velocity = velocity.reshape(*shape, len(drift), len(kinds))
    velocity[1] *= -1  # along the field that pulls, whichever way it points
    warmth = np.moveaxis(np.array(heat), 0, 1).reshape(*shape, len(heat), 2) * temperature
    volume = np.mean([atoms.get_volume() for atoms in structures]) * ANGSTROM**3
    count = np.array([symbols.count(kind) for kind in kinds])
    numbers = np.array([charges[kind] for kind in kinds])
    charge = numbers * count * constants.e / volume
    hop = (volume / count) ** (1 / 3)  # to the next place of an ion's own kind
    work = constants.e * strength.max() * float((np.abs(numbers) * hop).max())
    pull_over = work / (2 * constants.k * temperature)
    return _response(
        velocity,
        charge,
        strength,
        kinds,
        warmth.mean((0, 2, 3)),
        temperature,
        pull_over,
        draws,
        seed,
    )


def _look(
    state: MDState, along: torch.Tensor, belongs: torch.Tensor, thermal: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return mean velocity of each species about the centre of mass, and two temperatures."""
    systems = state.n_systems
    mass = state.masses.reshape(systems, -1)
    momentum = state.momenta.reshape(systems, -1, 3)
    speed = (momentum @ along) / mass
    centre = (mass * speed).sum(1) / mass.sum(1)
    mean = (speed - centre[:, None]) @ belongs.T
    members = (belongs > 0).to(mass.dtype)
    peculiar = speed - centre[:, None] - mean @ members
    along_it = (mass * peculiar.square()).mean(1) / thermal
    total = (momentum.square().sum(2) / mass).mean(1)
    across = (total - (mass * speed.square()).mean(1)) / (2 * thermal)
    return mean.cpu().numpy(), torch.stack([along_it, across], 1).cpu().numpy()


@dataclass(frozen=True)
class Slope:
    """A slope at zero field, its error and draws, and the share of the cubic term."""

    value: float
    std: float
    draws: np.ndarray
    curvature: np.ndarray


def _at_zero_field(
    mean: np.ndarray,
    noise: float,
    scale: np.ndarray,
    *,
    pull: float,
    cubic: bool,
    student: np.ndarray,
    rng: np.random.Generator,
) -> tuple[Slope, float]:
    r"""Fit Eyring's law with an unknown hop, or a free cubic term: the slope, and what is left.

    .. math:: y = s\, g_l(x), \quad g_l = x \frac{\sinh(a l x)}{a l x}, \qquad
              P(l \mid y) \propto \frac{|g|}{g \cdot y}
              \exp \frac{(g \cdot y)^2}{2 v\, g \cdot g}, \qquad
              s \mid y, l \sim N \Big( \frac{g \cdot y}{g \cdot g}, \frac{v}{g \cdot g} \Big)

    with v the variance of y, the hop l uniform up to its longest and s log-uniform.

    Parameters
    ----------
    mean : numpy.ndarray
        Response y at each field (any unit).
    noise : float
        Its standard error.
    scale : numpy.ndarray
        Fields x over the strongest (1).
    pull : float
        :math:`a l` of the longest hop at the strongest field (1).
    cubic : bool
        Whether a cubic term of any size and sign is taken instead.
    student : numpy.ndarray
        Draws of Student's t for the error of the slope.
    rng : numpy.random.Generator
        Source of the draws of the hop.

    Returns
    -------
    Slope, float
        The slope at zero field, and the least sum of squares over v.
    """
    if cubic:
        tilt = float(scale @ scale**3 / (scale @ scale))
        across = scale**3 - tilt * scale
        term = float(across @ mean / (across @ across))
        value = float(scale @ mean / (scale @ scale)) - tilt * term
        std = noise * np.sqrt(1.0 / (scale @ scale) + tilt**2 / (across @ across))
        return Slope(value, float(std), value + std * student, np.full(1, term / value)), 0.0
    over = np.minimum(pull, STRONGEST) * (np.arange(HOPS) + 0.5) / HOPS
    shape = scale * np.sinh(np.outer(over, scale)) / np.outer(over, scale)
    size, along = (shape**2).sum(1), shape @ mean
    slope, std = along / size, noise / np.sqrt(size)
    misfit = (np.square(mean - slope[:, None] * shape) / noise**2).sum(1)
    log = -0.5 * misfit - np.log(np.maximum(np.abs(slope), std) / std)
    weight = np.exp(log - log.max())
    weight /= weight.sum()
    value = float(weight @ slope)
    spread = float(weight @ (std**2 + (slope - value) ** 2))
    pick = rng.choice(HOPS, len(student), p=weight)
    bend = np.sinh(over[pick]) / over[pick] - 1.0
    return Slope(value, spread**0.5, slope[pick] + std[pick] * student, bend), float(misfit.min())


def _response(
    velocity: np.ndarray,
    charge: np.ndarray,
    strength: np.ndarray,
    kinds: list[str],
    warmth: np.ndarray,
    temperature: float,
    pull: float,
    draws: int,
    seed: int,
) -> xr.Dataset:
    """Fit current and drift of (sign, field, replica, frame, species) to the field."""
    fields = len(strength)
    pieces = np.array_split(np.arange(velocity.shape[3]), BLOCKS)
    blocks = np.stack([velocity[:, :, :, piece].mean(3) for piece in pieces], axis=3)
    # sign, field, replica and block of one field are samples of one mean
    samples = np.moveaxis(blocks, 1, 0).reshape(fields, -1, len(kinds))
    current = samples @ charge
    size = samples.shape[1]
    freedom = fields * (size - 1)
    # the noise of a mean does not depend on a weak field: pool it
    noise = float(np.sqrt(current.var(1, ddof=1).mean() / size))
    noises = np.sqrt(samples.var(1, ddof=1).mean(0) / size)
    mean, means = current.mean(1), samples.mean(1)
    scale = strength / strength.max()
    straight = scale @ mean / (scale @ scale)
    chance, linear = np.nan, True
    if fields > 1:
        excess = float(((mean - straight * scale) ** 2).sum() / noise**2) / (fields - 1)
        chance = float(stats.f.sf(excess, fields - 1, freedom))
        linear = chance > SIGNIFICANT
    rng = np.random.default_rng([seed, 5])
    student = rng.standard_t(freedom, draws)
    slope, left = _at_zero_field(
        mean, noise, scale, pull=pull, cubic=False, student=student, rng=rng
    )
    cubic = fields > 1 and bool(stats.f.sf(left / (fields - 1), fields - 1, freedom) < SIGNIFICANT)
    if cubic:
        slope, _ = _at_zero_field(
            mean, noise, scale, pull=pull, cubic=True, student=student, rng=rng
        )
    of_kind = [
        _at_zero_field(
            means[:, kind], float(noises[kind]), scale, pull=pull, cubic=cubic,
            student=rng.standard_t(freedom, draws), rng=rng,
        )[0]
        for kind in range(len(kinds))
    ]  # fmt: skip
    top = strength.max()
    said = "one field only: linearity was not tested"
    if fields > 1:
        word = "linear" if linear else "nonlinear, the slope at zero field is given"
        said = (
            f"{word} up to {top:.2g} V/m (probability {chance:.2g}); there the current exceeds the "
            f"slope at zero field by {100 * slope.curvature.mean():.0f} "
            f"+- {100 * slope.curvature.std():.0f} %"
        )
    rows = ("field",)
    return xr.Dataset(
        {
            "temperature": ((), temperature, {"units": "K"}),
            "current_density": (rows, mean, {"units": "A m-2"}),
            "current_density_std": (rows, np.full(fields, noise), {"units": "A m-2"}),
            "drift_velocity": (("species", "field"), means.T, {"units": "m s-1"}),
            "drift_velocity_std": (
                ("species", "field"),
                np.repeat(noises[:, None], fields, 1),
                {"units": "m s-1"},
            ),
            "temperature_along": (rows, warmth[:, 0], {"units": "K"}),
            "temperature_across": (rows, warmth[:, 1], {"units": "K"}),
            "conductivity": ((), slope.value / top, {"units": "S m-1"}),
            "conductivity_std": ((), slope.std / top, {"units": "S m-1"}),
            "conductivity_draw": ("draw", slope.draws / top, {"units": "S m-1"}),
            "mobility": ("species", [one.value / top for one in of_kind], {"units": "m2 V-1 s-1"}),
            "mobility_std": (
                "species",
                [one.std / top for one in of_kind],
                {"units": "m2 V-1 s-1"},
            ),
            "mobility_draw": (
                ("species", "draw"),
                np.array([one.draws / top for one in of_kind]),
                {"units": "m2 V-1 s-1"},
            ),
            "curvature": ((), float(slope.curvature.mean()), {"units": "1"}),
            "curvature_std": ((), float(slope.curvature.std()), {"units": "1"}),
            "nonlinearity_probability": ((), chance, {"units": "1"}),
            "linear": ((), linear),
        },
        coords={"field": ("field", strength, {"units": "V m-1"}), "species": kinds},
        attrs={"frame": "mass", "verdict": said},
    )


def beside_fluctuations(driven: xr.Dataset, fluctuation: xr.Dataset) -> xr.Dataset:
    """Put the conductivity of fluctuations (S m-1) beside that of drift, with how they agree.

    Parameters
    ----------
    driven : xarray.Dataset
        What `field_driven` gave.
    fluctuation : xarray.Dataset
        A TRANSPORT, or what a Green-Kubo estimator gave, of one condition.

    Returns
    -------
    xarray.Dataset
        `driven` with ``fluctuation_conductivity`` and its ``_std`` (S m-1), and
        ``disagreement`` (1), their difference in standard errors.

    Raises
    ------
    ValueError
        If the other holds more than one conductivity.
    """
    if fluctuation["conductivity"].size != 1:
        raise ValueError(
            f"beside_fluctuations: {fluctuation['conductivity'].size} conductivities were given; "
            "choose one condition with isel(condition=...)."
        )
    value = float(fluctuation["conductivity"].values.ravel()[0])
    error = float(fluctuation["conductivity_std"].values.ravel()[0])
    apart = float(driven["conductivity"]) - value
    return driven.assign(
        fluctuation_conductivity=((), value, {"units": "S m-1"}),
        fluctuation_conductivity_std=((), error, {"units": "S m-1"}),
        disagreement=(
            (),
            apart / float(np.hypot(error, driven["conductivity_std"])),
            {"units": "1"},
        ),
    )
