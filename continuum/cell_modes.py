r"""SPMe with an uneven reaction: close to P2D at a cost like that of SPMe, for any cell.

SPMe takes the reaction to be even over each electrode, and all of its error comes of that. Here the
ionic current runs through an electrode, from the collector (:math:`\xi = 0`) to the separator (1),
as

.. math::
    i_\mathrm{e}(\xi) = I \xi + a L \sum_{m=1}^M \frac{j_m}{m \pi} \sin m \pi \xi, \qquad
    j(\xi) = \frac{I}{a L} + \sum_m j_m \cos m \pi \xi

and what Galerkin's method asks of Ohm's law gives the modes :math:`j_m`: with
:math:`g = U + (2RT/F) \sinh^{-1}(j / 2 j_0)`, the potential of the solid above the electrolyte, and
:math:`\psi = (RT/F) \int \chi\, d\ln c`,

.. math::
    m \pi \left\langle (g + \psi) \cos m \pi \xi \right\rangle
    + \left\langle \left( \frac{i_\mathrm{e} - I}{\sigma} + \frac{i_\mathrm{e}}{\kappa} \right)
    L \sin m \pi \xi \right\rangle = 0

They move salt and lithium. As many particles as there are modes and the mean, at
:math:`\xi_k = (2k + 1) / (2M + 2)`, take the reaction where they are, and the surfaces
:math:`x_k` of these spheres (`continuum.cell_particles`) make up the stoichiometry over the
electrode,

.. math::
    x(\xi) = \frac{1}{M + 1} \sum_{k=0}^M x_k \Bigl(1 + 2 \sum_{m=1}^M
    \cos m \pi \xi_k \cos m \pi \xi \Bigr)

which is what a sphere in each place would do, were its diffusivity constant: the cosines of these
places are orthogonal. Nothing is fitted to P2D. The voltage is P2D's of that current: the
difference of

.. math::
    \langle g + \psi \rangle
    + \frac{L}{\sigma} \langle (1 - \xi)(I - i_\mathrm{e}) \rangle
    + L \left\langle \frac{\xi\, i_\mathrm{e}}{\kappa} \right\rangle

of both electrodes (with :math:`-I` in the positive), less the separator's drop. All means are
Gauss's, over the few points of `continuum.cell_layers`: what a porous electrode costs is its
potentials, and they are needed at no more places than tell the modes apart.

In eight published sets a drive cycle is 0.001 to 0.04 mV (RMS) from P2D, a discharge from full at
2C at most 0.93 mV, at 1.6 to 2.3 times the cost of SPMe on finite volumes; with two modes 0.002 to
0.13 mV at 1.1 to 1.6 times. That is measured in ``benchmarks/residual.py``.

References
----------
Marquis et al., J. Electrochem. Soc. 166, A3693 (2019), https://doi.org/10.1149/2.0341915jes (SPMe);
Doyle, Fuller, Newman, J. Electrochem. Soc. 140, 1526 (1993), https://doi.org/10.1149/1.2221597
(P2D).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import casadi
import numpy as np

from continuum.cell_beyond import BeyondSPMe
from continuum.cell_mesh import pybamm
from continuum.cell_nodes import SAME, IfNear
from continuum.cell_particles import diffused

ORDER = 4
SMALL = 1e-3  # scale of the modes as states: they are solved for that much less closely
LEAST_POINTS = 5  # Gauss's in an electrode
LEAST_SALT = 1.0  # mol m-3, below which an iteration sees no more than that
USED_UP = 0.05  # of the salt at rest; few modes of a reaction cannot spare a part of an electrode
END = 1e-4  # stoichiometries are kept this far from 0 and 1
MOST = (0.5, 0.2)  # V, from an even reaction, at the lower and the upper cut-off
EVEN = "Voltage of an even reaction [V]"


class ModalSPMe(BeyondSPMe):
    """SPMe whose reaction is uneven by a few modes, for ``pybamm.Simulation`` and experiments.

    ``"Voltage [V]"``, ``"Terminal voltage [V]"``, both cut-offs and voltage or power control see
    the uneven reaction, and so does the salt. ``"Negative electrode interfacial current density
    [A.m-2]"``, ``"Negative particle surface stoichiometry"`` and those of the positive electrode
    run over the electrode. `EVEN` stands beside them: SPMe's formula, with this salt. A solve ends,
    as at a cut-off, where less than `USED_UP` of the salt is left.

    Solve with the model's own ``default_solver``, IDAKLU that leaves algebraic states out of its
    test of errors (``options={"suppress_algebraic_error": True}``): without that a drive cycle
    takes several times as long.

    Parameters
    ----------
    options : dict, optional
        PyBaMM's options of the SPMe; the default ones alone.
    order : int
        Number of modes (1) in each electrode; the mesh points in ``default_var_pts`` go with it.
    name : str
        Name of the model.

    Raises
    ------
    ValueError
        For an order below one, or options other than the default ones.

    Examples
    --------
    >>> simulation = pybamm.Simulation(
    ...     ModalSPMe(), parameter_values=pybamm.ParameterValues("Chen2020")
    ... )
    >>> solution = simulation.solve([0, 600])
    >>> uneven = solution["Negative electrode interfacial current density [A.m-2]"].entries[:, -1]
    >>> bool(uneven[-1] > 1.1 * uneven[0])  # more at the separator
    True
    """

    solver_options: ClassVar[Mapping[str, Any]] = {
        **BeyondSPMe.solver_options,
        "suppress_algebraic_error": True,
    }

    def __init__(
        self,
        options: dict[str, Any] | None = None,
        order: int = ORDER,
        name: str = "Single Particle Model with electrolyte and an uneven reaction",
    ) -> None:
        if order < 1:
            raise ValueError(f"order is {order}, expected 1 or more modes; SPMe itself has none.")
        super().__init__(options, name)
        self.order = order
        known, p = self.variables, self.param
        T = known["X-averaged cell temperature [K]"]
        negative, positive = (self._electrode(side, T) for side in ("negative", "positive"))
        salt = next(state for state in self.rhs if state.name == _SALT)
        self.rhs[salt] = self.rhs[salt] + pybamm.concatenation(
            negative.source,
            pybamm.FullBroadcast(0, "separator", "current collector"),
            positive.source,
        )
        c = _positive(known["Separator electrolyte concentration [mol.m-3]"])
        kappa = p.kappa_e(c, known["Separator temperature [K]"])
        kappa = kappa * known["Separator electrolyte transport efficiency"]
        current = known["Total current density [A.m-2]"]
        across = current * p.s.L * pybamm.x_average(1 / kappa)
        voltage = positive.potential - negative.potential - across
        apart = voltage - known["Voltage [V]"]
        self.see(
            voltage,
            kept_as=EVEN,
            if_near=lambda margin, reach: IfNear(
                SAME, [margin, apart], "uneven_if_near", reach=reach
            ),
            apart=MOST,
        )
        lowest = pybamm.min(known["Electrolyte concentration [mol.m-3]"])
        self.events.append(
            pybamm.Event("Salt used up somewhere [mol.m-3]", lowest - USED_UP * p.c_e_init)
        )

    def _electrode(self, side: str, T: pybamm.Symbol) -> _Uneven:
        """Add the states of one electrode; return what salt and voltage take of them."""
        known, p, average = self.variables, self.param, pybamm.x_average
        Side, domain = side.capitalize(), f"{side} electrode"
        electrode = p.n if side == "negative" else p.p
        area = average(known[f"{Side} electrode surface area to volume ratio [m-1]"])
        L, local = electrode.L, known[f"{Side} electrode temperature [K]"]
        thermal = p.R * T / p.F

        def spread(symbol: pybamm.Symbol) -> pybamm.Symbol:
            return pybamm.PrimaryBroadcast(symbol, domain) if symbol.domain else symbol

        x = pybamm.SpatialVariable(
            f"x_{side[0]}",
            domain=[domain],
            auxiliary_domains={"secondary": "current collector"},
            coord_sys="cartesian",
        )
        xi = x / L if side == "negative" else (p.L_x - x) / L
        numbers = [m * np.pi for m in range(1, self.order + 1)]
        # few points miss the mean of a cosine; without it, all modes keep the salt
        cosines = [pybamm.cos(k * xi) for k in numbers]
        cosines = [cosine - average(cosine) for cosine in cosines]
        sines = [pybamm.sin(k * xi) for k in numbers]

        current = known["Total current density [A.m-2]"]
        if side == "positive":
            current = -current
        unit = p.Q / (p.A_cc * p.n_electrodes_parallel) / (area * L)  # mean reaction at 1C
        flux = spread(current / (area * L))
        ionic, source = spread(current) * xi, pybamm.Scalar(0)
        modes, reactions = [], []
        for m, (k, cosine, sine) in enumerate(zip(numbers, cosines, sines, strict=True), start=1):
            mode = pybamm.Variable(f"{Side} reaction mode {m}", domain="current collector")
            self.initial_conditions[mode] = pybamm.Scalar(0)
            j = unit * mode / SMALL
            modes.append(mode)
            reactions.append(j)
            flux = flux + spread(j) * cosine
            source = source + spread(j * area) * cosine
            ionic = ionic + spread(j * area * L / k) * sine

        # particles: one in each of as many places as tell the modes and the mean apart
        count = self.order + 1
        places = (np.arange(count) + 0.5) / count
        surfaces = []
        for number, place in enumerate(places, start=1):
            here = current / (area * L)
            for k, j in zip(numbers, reactions, strict=True):
                here = here + float(np.cos(k * place)) * j
            surfaces.append(self._particle(side, electrode.prim, number, here, T))
        surface = spread(sum(surfaces) / count)
        for k, cosine in zip(numbers, cosines, strict=True):
            weights = 2 / count * np.cos(k * places)
            terms = [float(w) * x for w, x in zip(weights, surfaces, strict=True)]
            surface = surface + spread(sum(terms)) * cosine
        surface = _within(surface)

        # potential of the solid above the electrolyte, and the salt's
        c = _positive(known[f"{Side} electrolyte concentration [mol.m-3]"])
        rest = p.c_e_init
        exchange = electrode.prim.j0(c, surface * electrode.prim.c_max, local)
        g = electrode.prim.U(surface, local) + 2 * spread(thermal) * pybamm.arcsinh(
            flux / (2 * exchange)
        )
        # Simpson's rule for the integral of chi over ln(c), from the salt at rest
        chi = spread(p.chi(rest, T)) + 4 * p.chi(pybamm.sqrt(c * rest), local) + p.chi(c, local)
        g = g + spread(thermal) * pybamm.log(c / rest) * chi / 6

        # Ohm's law
        kappa = p.kappa_e(c, local) * known[f"{Side} electrolyte transport efficiency"]
        efficiency = average(known[f"{Side} electrode transport efficiency"])
        sigma = electrode.sigma(None, T) * efficiency
        solid_drop, ionic_drop = (ionic - spread(current)) * spread(L / sigma), ionic * L / kappa
        for k, cosine, sine, mode in zip(numbers, cosines, sines, modes, strict=True):
            self.algebraic[mode] = k * average(g * cosine) + average(
                (solid_drop + ionic_drop) * sine
            )
        known[f"{Side} electrode interfacial current density [A.m-2]"] = flux
        known[f"{Side} particle surface stoichiometry"] = surface
        return _Uneven(
            source=source * (1 - p.t_plus(c, local)) / p.F,
            potential=average(g) - average((1 - xi) * solid_drop) + average(xi * ionic_drop),
        )

    def _particle(
        self, side: str, particle: Any, number: int, flux: pybamm.Symbol, T: pybamm.Symbol
    ) -> pybamm.Symbol:
        """Add one particle of an electrode with a flux (A m-2); its surface's stoichiometry."""
        p, domain = self.param, f"{side} particle"
        averaged = self.variables[f"X-averaged {domain} concentration [mol.m-3]"]
        c = pybamm.Variable(
            f"{side.capitalize()} particle {number} concentration [mol.m-3]",
            domains=averaged.domains,
            bounds=averaged.bounds,
            scale=particle.c_max,
        )
        slope = -flux / p.F / pybamm.surf(particle.D(c, pybamm.PrimaryBroadcast(T, domain)))
        self.initial_conditions[c] = self.initial_conditions[averaged]
        self.boundary_conditions[c] = {
            "left": (pybamm.Scalar(0), "Neumann"),
            "right": (slope, "Neumann"),
        }
        self.rhs[c] = diffused(c, particle, T)
        # not linear in the state, or PyBaMM would spread it over the electrode by a dense matrix
        return _within(pybamm.surf(c) / particle.c_max)

    def build_casadi_jacobian(self, expression: casadi.MX, y: casadi.MX) -> casadi.MX:
        """PyBaMM's, rates and Ohm's law apart: one is sparse by columns, the other by rows."""
        stacked = expression.is_op(casadi.OP_VERTCAT)
        parts = [expression.dep(k) for k in range(expression.n_dep())] if stacked else []
        ends = np.cumsum([part.shape[0] for part in parts]).tolist()
        needed = {self.len_rhs, self.len_rhs_and_alg}
        if self.switching_control_variables or not needed <= set(ends):
            return super().build_casadi_jacobian(expression, y)
        first = ends.index(self.len_rhs) + 1
        blocks = parts[:first], parts[first:]
        return casadi.vertcat(*(casadi.jacobian(casadi.vertcat(*one), y) for one in blocks))

    @property
    def default_var_pts(self) -> dict[str, int]:
        """PyBaMM's, with as many of Gauss's points in the electrodes as the modes ask for."""
        points = max(LEAST_POINTS, 2 * self.order - 1)
        return {**super().default_var_pts, "x_n": points, "x_p": points}


@dataclass(frozen=True)
class _Uneven:
    """What the modes of one electrode give: salt (mol m-3 s-1 of volume), and potential (V)."""

    source: pybamm.Symbol
    potential: pybamm.Symbol


def _positive(salt: pybamm.Symbol) -> pybamm.Symbol:
    """The concentration, or `LEAST_SALT` and less if that is negative, smoothly."""
    return 0.5 * (salt + pybamm.sqrt(salt**2 + 4 * LEAST_SALT**2))


def _within(stoichiometry: pybamm.Symbol) -> pybamm.Symbol:
    """The stoichiometry, kept `END` from 0 and 1."""
    return pybamm.maximum(END, pybamm.minimum(stoichiometry, 1 - END))


_SALT = "Porosity times concentration [mol.m-3]"
