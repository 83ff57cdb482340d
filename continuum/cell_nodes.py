"""CasADi functions as nodes of PyBaMM's graph: any function of scalars, and one only if near."""

from __future__ import annotations

import casadi
import numpy as np

from continuum.cell_mesh import pybamm


class Node(pybamm.Function):
    """A CasADi function of one column of numbers as one node of PyBaMM's graph.

    Parameters
    ----------
    function : casadi.Function
        Of a column as long as there are children.
    children : list of pybamm.Symbol
        Scalars, the function's arguments.
    name : str
        Name of the node.
    """

    __slots__ = ("function_of_scalars",)

    def __init__(self, function: casadi.Function, children: list[pybamm.Symbol], name: str) -> None:
        self.function_of_scalars = function
        super().__init__(self._numbers, *children, name=name)

    def _numbers(self, *arguments: np.ndarray) -> np.ndarray:
        columns = np.broadcast_arrays(*[np.asarray(a, dtype=float).ravel() for a in arguments])
        return np.array(self.function_of_scalars(np.stack(columns))).reshape(-1, 1)

    def _casadi_evaluate(self, *converted: casadi.MX) -> casadi.MX:
        return self.function_of_scalars(casadi.vertcat(*converted))

    def _function_new_copy(self, children: list[pybamm.Symbol]) -> Node:
        return self._with(children)

    def create_copy(
        self,
        new_children: list[pybamm.Symbol] | None = None,
        perform_simplifications: bool = True,
    ) -> Node:
        """A copy, with other children if given."""
        return self._with(new_children or [child.new_copy() for child in self.children])

    def _with(self, children: list[pybamm.Symbol]) -> Node:
        return type(self)(self.function_of_scalars, children, self.name)


class IfNear(Node):
    """A `Node` where the first child, a margin, is below `reach`; else 0, unworked.

    For cut-offs whose voltage costs more than an estimate of it that is never `reach` off, or that
    the current runs away from. The other children are what the function takes. Not even these are
    formed where it is not near: they become a function of the solver's state, on one side of a
    switch.
    """

    __slots__ = ("reach",)

    def __init__(
        self,
        function: casadi.Function,
        children: list[pybamm.Symbol],
        name: str,
        *,
        reach: float,
    ) -> None:
        self.reach = reach
        super().__init__(function, children, name)

    def _numbers(self, *arguments: np.ndarray) -> np.ndarray:
        margin = np.asarray(arguments[0], dtype=float).reshape(-1, 1)
        return np.where(margin < self.reach, super()._numbers(*arguments[1:]), 0.0)

    def _casadi_evaluate(self, *converted: casadi.MX) -> casadi.MX:
        margin, arguments = converted[0], casadi.vertcat(*converted[1:])
        states = casadi.symvar(arguments)
        near = casadi.Function("near", states, [self.function_of_scalars(arguments)])
        far = casadi.Function("far", states, [casadi.MX(0)])
        return casadi.Function.if_else("near_or_far", near, far)(margin < self.reach, *states)

    def _with(self, children: list[pybamm.Symbol]) -> IfNear:
        return type(self)(self.function_of_scalars, children, self.name, reach=self.reach)


_ONE = casadi.SX.sym("number", 1)
SAME = casadi.Function("same", [_ONE], [_ONE])
