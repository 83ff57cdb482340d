"""The weak form of Poisson-Nernst-Planck, in electrochemical potentials."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from continuum.finite_elements import PETSc, basix, compile_form, fem, ufl
from continuum.laws import FORMS, Law
from continuum.meshes import Domain
from continuum.newton import Newton, linear_solver


class Structure(NamedTuple):
    """All of a problem that its compiled forms depend on; the numbers are put in later."""

    domain: Domain
    ions: int
    crowded: bool
    laws: tuple[str, ...]
    walls: tuple[tuple[str, str, tuple[int, ...], int], ...]
    reactions: tuple[tuple[tuple[tuple[int, float], ...], tuple[tuple[int, float], ...]], ...]
    pinned: bool
    degree: int


class Problem(NamedTuple):
    """Compiled forms and the numbers in them."""

    space: Any
    unknown: Any
    last: Any
    older: Any
    newton: Newton
    numbers: dict[str, Any]
    laws: list[Any]
    walls: dict[str, dict[str, Any]]
    rates: list[Any]
    dofs: dict[str, np.ndarray]
    area: dict[str, float]
    balance: Any
    exchange: Any
    net: Any
    inventory: list[Any]
    energy: Any
    spread: Any
    settled: Any
    storage: Any
    push: dict[str, Any]
    concentration: list[Any]
    dx: Any


@lru_cache(maxsize=12)
def build(structure: Structure) -> Problem:
    r"""Compile the weak form of a structure.

    In units of the length, of :math:`\ell^2 / D`, RT/F, RT and :math:`\sum z^2 c^b`: for all
    :math:`q_i` and :math:`\chi`

    .. math::
        \int (\dot c_i - R_i) q_i + D_i c_i \nabla\mu_i \cdot \nabla q_i
        - \int_{walls} N_i q_i = 0, \quad
        \int (\lambda/\ell)^2 \nabla\psi \cdot \nabla\chi - \sum_i z_i c_i \chi
        - \int_{walls} (\lambda/\ell)^2 s \chi = 0

    with :math:`c_i = c_i^b \exp(\mu_i - z_i\psi + \ldots)` positive whatever the unknowns are.
    """
    domain, ions = structure.domain, structure.ions
    grid = domain.mesh
    fields = ions + 1 + structure.crowded
    element = basix.ufl.element("Lagrange", grid.basix_cell(), structure.degree, shape=(fields,))
    space = fem.functionspace(grid, element)
    w, last, older = (fem.Function(space) for _ in range(3))
    test = ufl.TestFunction(space)
    # exp of what is linear on a cell is resolved no better by more points than these
    quadrature = 2 if structure.degree == 1 else 2 * structure.degree + 2
    dx = ufl.Measure("dx", grid, metadata={"quadrature_degree": quadrature})
    ds = ufl.Measure("ds", grid, subdomain_data=domain.facets)
    names = ("charge", "bulk", "volume", "ratio", "diffusivity")
    numbers = {name: fem.Constant(grid, np.zeros(ions)) for name in names}
    numbers["weights"] = fem.Constant(grid, np.zeros(3))
    for name in ("debye_squared", "free", "cell", "temperature", "unit"):
        numbers[name] = fem.Constant(grid, 1.0)
    charge, bulk = numbers["charge"], numbers["bulk"]
    debye_squared = numbers["debye_squared"]

    def exponent(u: Any, i: int) -> Any:
        shift = numbers["ratio"][i] * u[ions + 1] if structure.crowded else 0.0
        return u[i] - charge[i] * u[ions] + shift

    def concentrations(u: Any) -> list[Any]:
        weight = [bulk[i] * ufl.exp(exponent(u, i)) for i in range(ions)]
        if structure.crowded:
            return weight
        room = numbers["free"] + sum(numbers["volume"][i] * weight[i] for i in range(ions))
        return [each / room for each in weight]

    c, c_last, c_older = concentrations(w), concentrations(last), concentrations(older)
    psi, chi = w[ions], test[ions]
    laws: list[Any] = []
    diffusivity = []
    for i, form in enumerate(structure.laws):
        if form == "":
            laws.append(None)
            diffusivity.append(numbers["diffusivity"][i])
            continue
        law, coefficients = _symbolic(form, grid)
        laws.append(coefficients)
        value = law(c[i] * numbers["unit"], numbers["temperature"], exp=ufl.exp)
        diffusivity.append(value / numbers["diffusivity"][i])

    weights = numbers["weights"]
    residual: Any = 0
    # the residual with the gradients of its diffusion held as they are in `older`
    settled: Any = 0
    for i in range(ions):
        rate = weights[0] * c[i] + weights[1] * c_last[i] + weights[2] * c_older[i]
        residual += rate * test[i] * dx
        residual += diffusivity[i] * c[i] * ufl.inner(ufl.grad(w[i]), ufl.grad(test[i])) * dx
        settled += diffusivity[i] * c[i] * ufl.inner(ufl.grad(older[i]), ufl.grad(test[i])) * dx
    rates = []
    for reactants, products in structure.reactions:
        rate_pair = (fem.Constant(grid, 0.0), fem.Constant(grid, 0.0))
        rates.append(rate_pair)
        speed = rate_pair[0] * _product(c, reactants) - rate_pair[1] * _product(c, products)
        for side, sign in ((reactants, -1.0), (products, 1.0)):
            for i, number in side:
                settled -= sign * number * speed * test[i] * dx
                residual -= sign * number * speed * test[i] * dx
    residual += debye_squared * ufl.inner(ufl.grad(psi), ufl.grad(chi)) * dx
    residual -= sum(charge[i] * c[i] for i in range(ions)) * chi * dx
    settled -= sum(charge[i] * c[i] for i in range(ions)) * chi * dx
    if structure.crowded:
        room = numbers["free"] * ufl.exp(w[ions + 1]) - 1.0
        room += sum(numbers["volume"][i] * c[i] for i in range(ions))
        residual += room * test[ions + 1] * dx
        settled += room * test[ions + 1] * dx
    balance, exchange = residual, 0

    # mixing, field and Stern layers; walls held at a potential do work, added where it is read
    delta = (
        w[ions + 1]
        if structure.crowded
        else -ufl.ln(
            numbers["free"]
            + sum(numbers["volume"][i] * bulk[i] * ufl.exp(exponent(w, i)) for i in range(ions))
        )
    )
    energy = (
        sum(
            c[i] * (w[i] - charge[i] * psi + numbers["ratio"][i] * delta - 1.0) for i in range(ions)
        )
        * dx
    )
    energy += numbers["free"] * ufl.exp(delta) * (delta - 1.0) / numbers["cell"] * dx
    energy += 0.5 * debye_squared * ufl.inner(ufl.grad(psi), ufl.grad(psi)) * dx

    trial = ufl.TrialFunction(space)
    spread = debye_squared * ufl.inner(ufl.grad(trial[ions]), ufl.grad(chi)) * dx
    for i in range(ions):
        potential = ufl.grad(trial[i] + charge[i] * trial[ions])
        spread += diffusivity[i] * c[i] * ufl.inner(potential, ufl.grad(test[i])) * dx

    one = fem.Constant(grid, 1.0)
    conditions = []
    # derivative of the residual by the potential of each wall
    push: dict[str, Any] = {}
    walls: dict[str, dict[str, Any]] = {}
    dofs: dict[str, np.ndarray] = {}
    area: dict[str, float] = {}
    facet_dim = grid.topology.dim - 1
    for name, kind, held, reacting in structure.walls:
        tag = domain.boundaries[name]
        facets = domain.facets.find(tag)
        area[name] = grid.comm.allreduce(fem.assemble_scalar(compile_form(one * ds(tag))))
        block = fem.locate_dofs_topological(space, facet_dim, facets)
        dofs[name] = block
        value = {
            key: fem.Constant(grid, 0.0)
            for key in ("potential", "given", "stiffness", "anodic", "cathodic", "up", "down")
        }
        value["held"] = [fem.Constant(grid, 0.0) for _ in held]
        walls[name] = value
        for i, constant in zip(held, value["held"], strict=True):
            part = fem.locate_dofs_topological(space.sub(i), facet_dim, facets)
            conditions.append(fem.dirichletbc(constant, part, space.sub(i)))
        if kind == "held":
            part = fem.locate_dofs_topological(space.sub(ions), facet_dim, facets)
            conditions.append(fem.dirichletbc(value["potential"], part, space.sub(ions)))
        else:
            exchange -= debye_squared * (value["given"] - value["stiffness"] * psi) * chi * ds(tag)
            push[name] = -debye_squared * value["stiffness"] * chi * ds(tag)
            energy += 0.5 * debye_squared * value["stiffness"] * psi**2 * ds(tag)
        if reacting >= 0:
            step = value["potential"] - psi
            anodic = value["anodic"] * ufl.exp(value["up"] * step)
            cathodic = value["cathodic"] * c[reacting] * ufl.exp(-value["down"] * step)
            exchange -= (anodic - cathodic) * test[reacting] * ds(tag)
            slope = value["up"] * anodic + value["down"] * cathodic
            push[name] = push.get(name, 0) - slope * test[reacting] * ds(tag)
    residual = balance + exchange
    if structure.pinned:
        # nothing fixes the zero of potential: hold it at one node
        first = np.array([ions] if grid.comm.rank == 0 else [], dtype=np.int32)
        conditions.append(fem.dirichletbc(0.0, first, space.sub(ions)))
    options = linear_solver(space)
    return Problem(
        space=space,
        unknown=w,
        last=last,
        older=older,
        newton=Newton(
            residual,
            w,
            conditions=conditions,
            clip=3.0,
            options=options,
            substitution=None if "pc_fieldsplit_type" not in options else _split(space, numbers),
        ),
        numbers=numbers,
        laws=laws,
        walls=walls,
        rates=rates,
        dofs=dofs,
        area=area,
        balance=balance,
        exchange=exchange,
        net=compile_form(balance),
        inventory=[compile_form(each * dx) for each in c],
        energy=compile_form(energy),
        spread=spread,
        settled=settled,
        storage=sum(c[i] * test[i] for i in range(ions)) * dx,
        push=push,
        concentration=c,
        dx=dx,
    )


# share of a Debye relaxation time below which steps are short
SHORT = 20.0


def _split(space: Any, numbers: dict[str, Any]) -> Callable[[], Any]:
    r"""Choose the unknowns that a sweep over the fields converges in.

    In a step long against the relaxation :math:`\lambda^2/D` of charge, the potentials
    :math:`\mu_i` are nearly uncoupled. In a short one the concentrations cannot follow and
    :math:`\mu_i` moves with :math:`z_i \psi`: then :math:`\mu_i - z_i \psi` are.
    """
    kept: dict[tuple[float, ...], Any] = {}

    def substitution() -> Any:
        if numbers["weights"].value[0] * float(numbers["debye_squared"].value) * SHORT < 1.0:
            return None
        charge = tuple(float(z) for z in numbers["charge"].value)
        if charge not in kept:
            kept.clear()
            kept[charge] = _exchange(space, charge)
        return kept[charge]

    return substitution


def _exchange(space: Any, charge: tuple[float, ...]) -> Any:
    """The matrix that takes (mu_i - z_i psi, psi) to (mu_i, psi) at every node."""
    block = space.dofmap.index_map_bs
    low, high = (block * end for end in space.dofmap.index_map.local_range)
    rows = np.arange(low, high, dtype=np.int32)
    field = rows % block
    ions = len(charge)
    mixed = field < ions
    start = np.concatenate([[0], np.cumsum(1 + mixed)]).astype(np.int32)
    column = np.empty(start[-1], dtype=np.int32)
    value = np.ones(start[-1])
    column[start[:-1]] = rows
    column[start[:-1][mixed] + 1] = rows[mixed] - field[mixed] + ions
    value[start[:-1][mixed] + 1] = np.asarray(charge)[field[mixed]]
    size = (high - low, space.dofmap.index_map.size_global * block)
    matrix = PETSc.Mat().createAIJ((size, size), csr=(start, column, value), comm=space.mesh.comm)
    matrix.setBlockSize(block)
    return matrix


def _symbolic(form: str, grid: Any) -> tuple[Law, Any]:
    """A law of given form whose coefficients are numbers that can be changed after compiling."""
    coefficients = fem.Constant(grid, np.zeros(len(FORMS[form][0])))
    return Law(
        form, tuple(coefficients[k] for k in range(len(FORMS[form][0]))), "m2 s-1"
    ), coefficients


def _product(c: list[Any], side: tuple[tuple[int, float], ...]) -> Any:
    value: Any = 1.0
    for i, number in side:
        value = value * (c[i] if number == 1 else c[i] ** number)
    return value
