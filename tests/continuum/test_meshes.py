"""Graded meshes and the tags of their boundaries."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np
import pytest

from continuum.finite_elements import MPI, fem, ufl
from continuum.meshes import block, graded, interval, read_gmsh


@pytest.mark.parametrize("left", [None, 1e-8, 1e-3, 2.0])
@pytest.mark.parametrize("right", [None, 1e-6, 0.5])
def test_graded_nodes_increase_from_zero_to_one(left, right):
    nodes = graded(40, left=left, right=right)
    assert nodes.shape == (41,)
    assert nodes[0] == 0.0 and nodes[-1] == 1.0
    assert np.all(np.diff(nodes) > 0)


def test_every_decade_gets_the_same_number_of_cells():
    nodes = graded(700, left=1e-7)
    decades = [np.sum((nodes > 10.0**k) & (nodes <= 10.0 ** (k + 1))) for k in range(-5, 0)]
    assert np.ptp(decades) <= 1


def test_grading_is_mirrored():
    np.testing.assert_allclose(
        graded(30, left=1e-4), 1.0 - graded(30, right=1e-4)[::-1], rtol=0, atol=1e-15
    )


def test_one_facet_at_each_end_however_thin_the_layer():
    domain = interval(graded(64, left=1e-9))
    ds = ufl.Measure("ds", domain.mesh, subdomain_data=domain.facets)
    x = ufl.SpatialCoordinate(domain.mesh)[0]
    for name, position in (("left", 0.0), ("right", 1.0)):
        tag = domain.boundaries[name]
        assert len(domain.facets.find(tag)) == 1
        assert fem.assemble_scalar(fem.form((1.0 + x) * ds(tag))) == pytest.approx(1.0 + position)


def test_faults_are_listed_together():
    with pytest.raises(ValueError, match="even number.*left layer is -1") as error:
        graded(41, left=-1, right=0.1)
    assert str(error.value).count(";") == 2
    with pytest.raises(ValueError, match="at least 2"):
        graded(1)
    with pytest.raises(ValueError, match="increase strictly"):
        interval(np.array([0.0, 0.5, 0.5, 1.0]))


def test_missing_gmsh_is_one_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "gmsh", None)
    monkeypatch.delitem(sys.modules, "dolfinx.io.gmsh", raising=False)
    with pytest.raises(ImportError, match="Reading 'cell.msh' needs gmsh.*install gmsh"):
        read_gmsh("cell.msh")


def test_named_groups_of_a_gmsh_file_are_the_boundaries(monkeypatch):
    """A stand-in for the reader of dolfinx, which cannot be imported without gmsh."""
    square = block([np.linspace(0, 1, 4)] * 2, comm=MPI.COMM_SELF)
    groups = {
        "electrode": SimpleNamespace(dim=1, tag=3),
        "electrolyte": SimpleNamespace(dim=2, tag=7),
    }
    data = SimpleNamespace(mesh=square.mesh, facet_tags=square.facets, physical_groups=groups)
    reader = SimpleNamespace(read_from_msh=lambda path, comm: data)
    monkeypatch.setitem(sys.modules, "gmsh", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "dolfinx.io.gmsh", reader)
    monkeypatch.setattr(sys.modules["dolfinx.io"], "gmsh", reader, raising=False)
    read = read_gmsh("cell.msh", comm=MPI.COMM_SELF)
    assert dict(read.boundaries) == {"electrode": 3} and len(read.facets.find(3)) == 3
    del groups["electrode"]
    with pytest.raises(ValueError, match="names no boundaries"):
        read_gmsh("cell.msh", comm=MPI.COMM_SELF)


@pytest.mark.parametrize("ends", [{"right": 1e-30}, {"left": 1e-30, "right": 1e-30}])
def test_nodes_of_the_thinnest_layers_still_differ(ends):
    nodes = graded(400, **ends)
    width = np.diff(nodes)
    # some roundings of 1 wide, so that no cell is inside out or far from what it should be
    assert width.min() > 0
    assert width[-1] > 100 * np.finfo(float).eps
    assert np.all(width[-100:-1] > 0.99 * width[-99:])
