"""Results on disk: they come back as they were, and stale ones are not used."""

import json

import numpy as np
import pytest
import xarray as xr

from multiscale import store


@pytest.fixture
def tree():
    dataset = xr.Dataset(
        {
            "conductivity": ("condition", [1.0, np.nan], {"units": "S m-1"}),
            "diffusive": ("condition", [True, False]),
            "verdict": ("condition", ["yes, from 0.8 ps", "too few hops: Å é"]),
            "position": (("frame", "xyz"), np.random.default_rng(0).random((900, 3))),
            "extrapolated": ((), True),
            "single": ("condition", np.array([1, 2], np.float32)),
        },
        coords={"species": ["Li", "Cl"]},
        attrs={"frame": "lab", "temperatures_used": 2, "width": 0.5},
    )
    return xr.DataTree.from_dict({"/transport": dataset, "/continuum/slab": dataset[["single"]]})


def test_a_tree_comes_back_as_it_was(tree, tmp_path):
    tree.attrs["provenance"] = json.dumps({"versions": {"a": "1"}, "seeds": [1, 2]})
    path = store.write(tree, tmp_path / "deep" / "result.nc")
    with xr.open_datatree(path) as plain:
        back = plain.load()
    xr.testing.assert_identical(back, store.load(path))
    for group in tree.subtree:
        for name, variable in back[group.path].variables.items():
            expected = group.variables[name]
            assert variable.dims == expected.dims
            assert variable.attrs == expected.attrs
            np.testing.assert_array_equal(variable.values, expected.values)
    assert back["transport"]["diffusive"].dtype == bool
    assert bool(back["transport"]["extrapolated"]) is True
    assert back["transport"].attrs == tree["transport"].attrs
    assert store.provenance(back)["seeds"] == [1, 2]
    assert [path.name for path in path.parent.iterdir()] == ["result.nc"], "no draft is left"


class Stage:
    """Counts how often it works."""

    def __init__(self, tree):
        self.tree, self.runs = tree, 0

    def __call__(self):
        self.runs += 1
        return self.tree.copy(deep=True)


def once(stage, folder, modules=("multiscale.store",), packages=("numpy",), **inputs):
    return store.reuse_or_run(
        "stage", stage, folder=folder, inputs=inputs, modules=modules, packages=packages
    )


def test_nothing_changed_is_not_run_again(tree, tmp_path):
    stage = Stage(tree)
    first, fingerprint, reused = once(stage, tmp_path, seed=1)
    assert not reused
    second, again, reused = once(stage, tmp_path, seed=1)
    assert reused
    assert again == fingerprint
    assert stage.runs == 1
    xr.testing.assert_allclose(first, second)
    kept = store.provenance(second)
    assert kept["inputs"] == {"seed": 1}
    assert kept["versions"]["numpy"] == np.__version__
    assert kept["wall_time_s"] >= 0


def test_anything_changed_is_run_again(tree, tmp_path, monkeypatch):
    stage = Stage(tree)
    once(stage, tmp_path, seed=1)
    once(stage, tmp_path, seed=2)
    assert stage.runs == 2
    once(stage, tmp_path, ("multiscale.case",), seed=1)
    assert stage.runs == 3
    monkeypatch.setattr(store, "version", lambda name: "99")
    once(stage, tmp_path, seed=1)
    assert stage.runs == 4


def test_source_of_a_package_is_all_its_modules(tmp_path, monkeypatch):
    package = tmp_path / "toy_package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "inner.py").write_text("value = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    before = store.source_digest(["toy_package"])
    assert store.source_digest(["toy_package"]) == before
    (package / "inner.py").write_text("value = 2\n")
    assert store.source_digest(["toy_package"]) != before
    with pytest.raises(ValueError, match="not found"):
        store.source_digest(["no_such_module_here"])


def test_work_that_fails_leaves_nothing(tmp_path):
    def fail():
        raise RuntimeError("broke")

    with pytest.raises(RuntimeError, match="broke"):
        once(fail, tmp_path, seed=1)
    assert not list(tmp_path.rglob("*.nc*"))
