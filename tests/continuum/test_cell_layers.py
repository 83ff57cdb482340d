"""Mixed elements through a cell's layers: exact rates, conservation, what they are not made for."""

from itertools import pairwise

import numpy as np
import pytest
from scipy.optimize import brentq

from continuum.cell_layers import (
    LAYERS,
    GaussSubMesh,
    MixedElements,
    lagrange,
    layer_submeshes,
    lobatto,
)
from continuum.cell_mesh import pybamm
from continuum.cell_modes import ModalSPMe

LENGTHS, CONDUCTANCES = np.array([1.0, 0.3, 0.7]), np.array([0.2, 1.0, 0.4])
BORDERS = np.append(0.0, LENGTHS.cumsum())
VARIABLES = [getattr(pybamm.standard_spatial_vars, f"x_{k}") for k in "nsp"]


def laid(points, mesh_class=GaussSubMesh):
    """Three layers on so many points."""
    geometry = {
        layer: {x: {"min": a, "max": b}}
        for layer, x, (a, b) in zip(LAYERS, VARIABLES, pairwise(BORDERS), strict=True)
    }
    return pybamm.Mesh(
        geometry,
        dict.fromkeys(LAYERS, mesh_class),
        dict(zip(VARIABLES, points, strict=True)),
    )


def diffusion(points, *, law=None, mesh_class=GaussSubMesh, method=MixedElements):
    """The rate of change of a concentration as a function of it, and the mesh."""
    mesh = laid(points, mesh_class)
    c = pybamm.concatenation(*(pybamm.Variable(layer, domain=layer) for layer in LAYERS))
    through = pybamm.concatenation(
        *(pybamm.PrimaryBroadcast(a, layer) for a, layer in zip(CONDUCTANCES, LAYERS, strict=True))
    )
    model = pybamm.BaseModel()
    zero = (pybamm.Scalar(0), "Neumann")
    model.rhs = {c: pybamm.div(through * (law(c) if law else 1) * pybamm.grad(c))}
    model.boundary_conditions = {c: {"left": zero, "right": zero}}
    model.initial_conditions = {c: pybamm.Scalar(1)}
    model.variables = {"c": c, "mean": pybamm.x_average(c)}
    disc = pybamm.Discretisation(mesh, dict.fromkeys(LAYERS, method()))
    disc.process_model(model)
    return (lambda y: model.concatenated_rhs.evaluate(y=y[:, None])[:, 0]), mesh[LAYERS]


def matrix(rate, count):
    return np.stack([rate(one) for one in np.eye(count)], axis=1)


def slowest():
    """The slowest rate of decay: an eigenfunction carried through the layers, its flux 0 behind."""

    def left_over(p):
        value, flux = 1.0, 0.0
        for length, a in zip(LENGTHS, CONDUCTANCES, strict=True):
            k = np.sqrt(p / a)
            cosine, sine = np.cos(k * length), np.sin(k * length)
            value, flux = (
                value * cosine + flux * sine / (a * k),
                flux * cosine - value * a * k * sine,
            )
        return flux

    return brentq(left_over, 0.3, 2.0, xtol=1e-15)


def test_lobatto_is_exact_to_its_degree_and_no_further():
    for degree in (1, 2, 5, 8):
        points, weights = lobatto(degree)
        for power in range(0, 2 * degree, 2):
            assert weights @ points**power == pytest.approx(2 / (power + 1), abs=1e-13)
        assert abs(weights @ points ** (2 * degree) - 2 / (2 * degree + 1)) > 1e-6


def test_polynomials_and_their_slopes_are_met():
    points, places = lobatto(4)[0], np.linspace(-1, 1, 7)
    shape = np.polynomial.Polynomial([0.3, -1.0, 2.0, 0.5, -0.7])
    np.testing.assert_allclose(lagrange(points, places) @ shape(points), shape(places), atol=1e-13)
    slopes = lagrange(points, places, slope=True) @ shape(points)
    np.testing.assert_allclose(slopes, shape.deriv()(places), atol=1e-12)


def test_the_rate_of_decay_through_three_layers_converges_faster_than_any_power():
    """Two more points in each layer take the error down by three decades, and then again."""
    exact = slowest()
    missed = []
    for n in (2, 3, 4, 5):
        rate, mesh = diffusion((n, n, n))
        found = np.sort(np.linalg.eigvals(matrix(rate, mesh.npts)).real)[::-1]
        assert found[0] == pytest.approx(0, abs=1e-10)
        missed.append(abs(-found[1] / exact - 1))
    assert missed[0] / missed[2] > 1e3
    assert missed[1] / missed[3] > 1e3
    assert missed[-1] < 1e-7
    rate, mesh = diffusion(
        (20, 20, 20), mesh_class=pybamm.Uniform1DSubMesh, method=pybamm.FiniteVolume
    )
    volumes = np.sort(np.linalg.eigvals(matrix(rate, mesh.npts)).real)[::-1]
    assert abs(-volumes[1] / exact - 1) > 2 * missed[1]  # twenty volumes, three points


def test_diffusion_is_symmetric_in_the_weights_of_its_points():
    rate, mesh = diffusion((4, 2, 5))
    weighed = mesh.d_edges[:, None] * matrix(rate, mesh.npts)
    np.testing.assert_allclose(weighed, weighed.T, atol=1e-12)
    assert np.linalg.eigvalsh(weighed).max() < 1e-12


def test_no_law_of_the_diffusivity_loses_or_makes_anything():
    rate, mesh = diffusion((5, 3, 5), law=lambda c: pybamm.exp(c) * (1 + c**2))
    for seed in range(3):
        c = np.random.default_rng(seed).uniform(0.5, 1.5, mesh.npts)
        change = rate(c)
        assert abs(mesh.d_edges @ change) < 1e-12 * np.abs(mesh.d_edges * change).sum()


def test_a_law_of_the_diffusivity_is_met_as_closely():
    """Kirchhoff's transform: through a diffusivity of exp(c), exp(c) of a steady flux is linear.

    In such concentrations nothing changes but in the outer layers, where the flux must come from.
    """
    flux = 0.1
    heights = np.exp(1.0) - flux * np.append(0.0, (LENGTHS / CONDUCTANCES).cumsum())
    missed = []
    for n in (3, 5, 7):
        rate, mesh = diffusion((n, n, n), law=pybamm.exp)
        change = mesh.d_edges * rate(np.log(np.interp(mesh.nodes, BORDERS, heights)))
        into, out = change[:n].sum(), change[2 * n :].sum()
        missed.append(max(abs(into + flux), abs(out - flux), *abs(change[n : 2 * n])))
    assert missed[1] < 0.05 * missed[0]
    assert missed[2] < 0.05 * missed[1]
    assert missed[2] < 1e-5 * flux


def test_points_lie_where_they_are_said_to_be_and_means_are_gauss_s():
    _, mesh = diffusion((3, 2, 4))
    for k, (n, first) in enumerate(((3, 0), (2, 3), (4, 5))):
        gauss = np.polynomial.legendre.leggauss(n)[0]
        expected = BORDERS[k] + LENGTHS[k] * (gauss + 1) / 2
        np.testing.assert_allclose(mesh.nodes[first : first + n], expected, rtol=1e-14)
    assert mesh.d_edges @ mesh.nodes**3 == pytest.approx(BORDERS[-1] ** 4 / 4, rel=1e-14)


def test_between_nodes_and_edges_polynomials_are_kept_and_jumps_shared():
    mesh, method = laid((4, 3, 5)), MixedElements()
    method.build(mesh)
    whole = mesh[LAYERS]
    shape = np.polynomial.Polynomial([0.3, -1.0, 2.0])

    def moved(values, key, way="arithmetic"):
        symbol = pybamm.StateVector(slice(0, len(values)), domains={"primary": list(LAYERS)})
        return method.shift(symbol, key, way).evaluate(y=values[:, None])[:, 0]

    at_edges = moved(shape(whole.nodes), "node to edge")
    np.testing.assert_allclose(at_edges, shape(whole.edges), rtol=1e-12)
    at_nodes = moved(shape(whole.edges), "edge to node")
    np.testing.assert_allclose(at_nodes, shape(whole.nodes), rtol=1e-12)
    jump = np.repeat([1.0, 3.0], [4, 8])
    assert moved(jump, "node to edge")[4] == pytest.approx(2.0)
    # Lobatto's weights at the ends of layers of 4 and of 3
    left, right = LENGTHS[0] / (4 * 5), LENGTHS[1] / (3 * 4)
    expected = (left + right) / (left / 1.0 + right / 3.0)
    assert moved(jump, "node to edge", "harmonic")[4] == pytest.approx(expected)


def test_a_value_at_an_end_is_the_polynomial_s():
    mesh, method = laid((4, 3, 5)), MixedElements()
    method.build(mesh)
    shape = np.polynomial.Polynomial([0.3, -1.0, 2.0])
    for layer, (start, end) in zip(LAYERS, pairwise(BORDERS), strict=True):
        child = pybamm.Variable("c", domain=layer)
        nodes = mesh[layer].nodes
        values = pybamm.StateVector(slice(0, len(nodes)), domains={"primary": [layer]})
        for side, place in (("left", start), ("right", end)):
            symbol = pybamm.BoundaryValue(child, side)
            found = method.boundary_value_or_flux(symbol, values)
            assert found.evaluate(y=shape(nodes)[:, None]) == pytest.approx(shape(place))


def test_on_another_mesh_it_is_the_method_of_finite_volumes():
    c = np.random.default_rng(0).uniform(0.5, 1.5, 12)
    one, other = (
        diffusion((5, 2, 5), mesh_class=pybamm.Uniform1DSubMesh, method=method, law=pybamm.exp)[0]
        for method in (MixedElements, pybamm.FiniteVolume)
    )
    np.testing.assert_array_equal(one(c), other(c))


def test_what_it_does_not_hold_for_is_refused():
    submeshes = {**layer_submeshes(), "separator": pybamm.Uniform1DSubMesh}
    values = pybamm.ParameterValues("Chen2020")
    mixed = pybamm.Simulation(
        ModalSPMe(),
        parameter_values=values,
        submesh_types={**ModalSPMe().default_submesh_types, **submeshes},
    )
    with pytest.raises(ValueError, match="for negative electrode, positive electrode only"):
        mixed.build()
    model = pybamm.lithium_ion.DFN()
    dirichlet = pybamm.Simulation(
        model,
        parameter_values=values,
        submesh_types={**model.default_submesh_types, **layer_submeshes()},
        spatial_methods={**model.default_spatial_methods, "macroscale": MixedElements()},
    )
    with pytest.raises(NotImplementedError, match="'Negative electrode potential .* Dirichlet"):
        dirichlet.build()
