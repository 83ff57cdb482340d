"""The weak form of Poisson-Boltzmann and of its tangents, compiled once for a shape of problem."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from continuum.finite_elements import basix, compile_form, fem, ufl
from continuum.meshes import Domain
from continuum.newton import Newton

QUADRATURE = 8
# name of the far end of a line that reaches into the bulk
FAR = "far"


class Problem(NamedTuple):
    """Compiled forms on one mesh, used again by every solve of the same shape."""

    space: Any
    unknown: Any
    newton: Newton
    numbers: dict[str, Any]
    drive: dict[str, Any]
    held: dict[str, Any]
    dofs: dict[str, np.ndarray]
    area: dict[str, float]
    bulk: Any
    direction: Any
    tangent: Any
    load: dict[str, Any]
    well: list[Any]
    stretch: Any
    at_points: Any


@lru_cache(maxsize=12)
def build(
    domain: Domain,
    ions: int,
    crowded: bool,
    kinds: tuple[tuple[str, str], ...],
    wells: tuple[int, ...],
    stretched: bool,
    degree: int,
) -> Problem:
    r"""Compile the weak form of a shape of problem; the numbers are put in later.

    In units of the length, RT/F and :math:`\sum z^2 c^b`: for all v

    .. math::
        \int (\lambda/\ell)^2 \hat\varepsilon \nabla\psi \cdot \nabla v - \sum_i z_i c_i v
        - \int_{walls} (\lambda/\ell)^2 (s - k \psi) v = 0, \quad
        c_i = c_i^b \exp(-z_i \psi - U_i) / \ldots

    Parameters
    ----------
    domain : Domain
        The mesh.
    ions : int
        Number of species (1).
    crowded : bool
        Whether the free volume is an unknown, as for unequal sizes.
    kinds : tuple
        Name and kind, ``held`` or ``robin``, of each wall.
    wells : tuple of int
        Species that have a potential of mean force.
    stretched : bool
        Whether the permittivity depends on position.
    degree : int
        Polynomial degree (1).
    """
    grid = domain.mesh
    shape = (2,) if crowded else ()
    element = basix.ufl.element("Lagrange", grid.basix_cell(), degree, shape=shape)
    space = fem.functionspace(grid, element)
    scalar = space if not crowded else space.sub(0)
    w, v = fem.Function(space), ufl.TestFunction(space)
    psi, test = (w[0], v[0]) if crowded else (w, v)
    dx = ufl.Measure("dx", grid, metadata={"quadrature_degree": QUADRATURE})
    ds = ufl.Measure("ds", grid, subdomain_data=domain.facets)
    at_points = fem.functionspace(
        grid, basix.ufl.quadrature_element(grid.basix_cell(), degree=QUADRATURE)
    )
    well = [fem.Function(at_points) for _ in wells]
    stretch = fem.Function(at_points) if stretched else None
    numbers = {
        name: fem.Constant(grid, np.zeros(ions)) for name in ("charge", "bulk", "volume", "ratio")
    }
    numbers["debye_squared"] = fem.Constant(grid, 1.0)
    numbers["free"] = fem.Constant(grid, 1.0)

    weight = []
    for i in range(ions):
        exponent = -numbers["charge"][i] * psi
        if i in wells:
            exponent -= well[wells.index(i)]
        if crowded:
            exponent += numbers["ratio"][i] * w[1]
        weight.append(numbers["bulk"][i] * ufl.exp(exponent))
    charge = sum(numbers["charge"][i] * weight[i] for i in range(ions))
    if not crowded:
        # equal volumes: the free volume is explicit; points have none
        charge /= numbers["free"] + sum(numbers["volume"][i] * weight[i] for i in range(ions))
    field = numbers["debye_squared"] * (stretch if stretched else 1.0) * ufl.grad(psi)
    bulk = ufl.inner(field, ufl.grad(test)) * dx - charge * test * dx
    if crowded:
        room = numbers["free"] * ufl.exp(w[1]) - 1.0
        room += sum(numbers["volume"][i] * weight[i] for i in range(ions))
        bulk += room * v[1] * dx

    residual, conditions = bulk, []
    drive: dict[str, Any] = {}
    held: dict[str, Any] = {}
    dofs: dict[str, np.ndarray] = {}
    area: dict[str, float] = {}
    load: dict[str, Any] = {}
    one = fem.Constant(grid, 1.0)
    for name, kind in kinds:
        tag = domain.boundaries["right" if name == FAR else name]
        facets = domain.facets.find(tag)
        dofs[name] = fem.locate_dofs_topological(scalar, grid.topology.dim - 1, facets)
        area[name] = grid.comm.allreduce(fem.assemble_scalar(compile_form(one * ds(tag))))
        value = fem.Constant(grid, 0.0)
        if kind == "held":
            held[name] = value
            conditions.append(fem.dirichletbc(value, dofs[name], scalar))
            load[name] = None
            continue
        drive[name] = (value, fem.Constant(grid, 0.0))
        # both kinds are one Robin condition: stiffness (V - psi) + given charge
        given, stiffness = drive[name]
        residual -= numbers["debye_squared"] * (given - stiffness * psi) * test * ds(tag)
        load[name] = compile_form(numbers["debye_squared"] * test * ds(tag))
    newton = Newton(residual, w, conditions=conditions, clip=5.0, convex=not crowded)
    direction = fem.Function(space)
    return Problem(
        space=space,
        unknown=w,
        newton=newton,
        numbers=numbers,
        drive=drive,
        held=held,
        dofs=dofs,
        area=area,
        bulk=compile_form(bulk),
        direction=direction,
        tangent=compile_form(ufl.action(ufl.derivative(bulk, w), direction)),
        load=load,
        well=well,
        stretch=stretch,
        at_points=at_points,
    )
