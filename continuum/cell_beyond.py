"""What models that go beyond SPMe share: default options, particles, another voltage, cut-offs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from continuum.cell_layers import MixedElements, layer_submeshes
from continuum.cell_mesh import pybamm
from continuum.cell_nodes import SAME, IfNear
from continuum.cell_particles import ladder_submeshes, on_ladder

POINTS = {"x_n": 7, "x_s": 3, "x_p": 7}  # Gauss's
TOLERANCES = {"rtol": 1e-6, "atol": 1e-8}
LONGEST_STEP = 60.0  # s; at a constant current nothing else limits it
AWAY = 1.0  # V, from a cut-off that the current runs away from
ROUNDING = 1e-12  # A


class BeyondSPMe(pybamm.lithium_ion.SPMe):
    """SPMe on particles of few shells that answer as spheres, to be given another voltage by `see`.

    The shells are those of `continuum.cell_particles`, 15 whatever ``var_pts`` say. The salt and
    all means over the layers are on the few points of `continuum.cell_layers`.

    Parameters
    ----------
    options : dict, optional
        PyBaMM's options of the SPMe; the default ones alone.
    name : str
        Name of the model.

    Raises
    ------
    ValueError
        For options other than the default ones.
    """

    solver_options: ClassVar[Mapping[str, Any]] = {"dt_max": LONGEST_STEP}

    def __init__(self, options: dict[str, Any] | None, name: str) -> None:
        super().__init__(options, name)
        refused = [
            f"{key} = {value!r}"
            for key, value in (options or {}).items()
            if value != pybamm.BatteryModelOptions({})[key]
        ]
        if refused:
            raise ValueError(
                f"{type(self).__name__} holds for SPMe with default options, not "
                f"{', '.join(refused)}."
            )
        on_ladder(self)

    def see(
        self,
        voltage: pybamm.Symbol,
        *,
        kept_as: str,
        if_near: Callable[[pybamm.Symbol, float], pybamm.Symbol],
        apart: tuple[float, float],
    ) -> None:
        """Let the voltage be another one, for variables, control and both cut-offs.

        The lower cut-off is looked at while the cell discharges or rests, the upper one while it
        charges or rests: a solver asks at each step, and SPMe's voltage is half of what it costs.

        Parameters
        ----------
        voltage : pybamm.Symbol
            The voltage (V).
        kept_as : str
            Name of the variable (V) that keeps SPMe's.
        if_near : callable
            Of how far SPMe's is from a cut-off (V), and within what distance that counts as near
            (V): what `voltage` is beyond it (V), or 0 if it is not near; such as a
            `continuum.cell_nodes.IfNear`.
        apart : tuple of float
            The most (V) that the two differ by, near the lower cut-off and near the upper.
        """
        known, p = self.variables, self.param
        plain = known["Voltage [V]"]
        known[kept_as] = plain
        known["Voltage [V]"] = known["Terminal voltage [V]"] = voltage
        known["Battery voltage [V]"] = voltage * p.n_cells
        low, high = plain - p.voltage_low_cut, p.voltage_high_cut - plain
        current = known["Current [A]"]
        cuts = {
            "Minimum voltage [V]": _towards(current, low + if_near(low, apart[0])),
            "Maximum voltage [V]": _towards(-current, high - if_near(high, apart[1])),
        }
        self.events = [
            pybamm.Event(event.name, cuts[event.name], event.event_type)
            if event.name in cuts
            else event
            for event in list(self._events)
        ]

    @property
    def default_submesh_types(self) -> dict[str, Any]:
        """PyBaMM's, with particles on shells and layers on Gauss's points."""
        return {**super().default_submesh_types, **ladder_submeshes(), **layer_submeshes()}

    @property
    def default_spatial_methods(self) -> dict[str, Any]:
        """PyBaMM's, with `continuum.cell_layers.MixedElements` through the layers."""
        return {**super().default_spatial_methods, "macroscale": MixedElements()}

    @property
    def default_var_pts(self) -> dict[str, int]:
        """PyBaMM's, with few points in the layers."""
        return {**super().default_var_pts, **POINTS}

    @property
    def default_solver(self) -> pybamm.BaseSolver:
        """IDAKLU, closer than PyBaMM's own, whose tolerance alone is 0.2 mV in a drive cycle.

        Its steps cannot leap over a cut-off, to where a potential means nothing.
        """
        return pybamm.IDAKLUSolver(**TOLERANCES, options=dict(self.solver_options))


def _towards(current: pybamm.Symbol, margin: pybamm.Symbol) -> pybamm.Symbol:
    """The margin (V) where the current (A) is not negative, unworked and `AWAY` elsewhere."""
    return AWAY + IfNear(SAME, [-current, margin - AWAY], "margin_if_towards", reach=ROUNDING)
