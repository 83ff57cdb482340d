"""The Yeh-Hummer correction: exact size dependence, error and refusals."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from scipy import constants

from atomistic.observables.finite_size import yeh_hummer

TEMPERATURE, VISCOSITY, INFINITE = 300.0, 0.9e-3, 2.3e-9


def boxed(lengths, error=1e-11):
    """Diffusivities that a periodic Stokes fluid has in cubes of the given edges (m)."""
    lengths = np.asarray(lengths)
    shift = 2.837297 * constants.k * TEMPERATURE / (6 * np.pi * VISCOSITY * lengths)
    value = np.repeat((INFINITE - shift)[:, None], 2, axis=1)
    draws = value[..., None] + error * np.random.default_rng(0).standard_normal((*value.shape, 900))
    dims = ("condition", "species")
    return xr.Dataset(
        {
            "temperature": ("condition", np.full(len(lengths), TEMPERATURE)),
            "box_length": ("condition", lengths),
            "self_diffusivity": (dims, value, {"units": "m2 s-1"}),
            "self_diffusivity_std": (dims, np.full_like(value, error), {"units": "m2 s-1"}),
            "self_diffusivity_draw": ((*dims, "draw"), draws, {"units": "m2 s-1"}),
        },
        attrs={"frame": "mass", "finite_size_correction": "none"},
    )


def test_every_box_gives_the_same_infinite_value():
    data = boxed([2e-9, 3e-9, 5e-9])
    before = data.copy(deep=True)
    found = yeh_hummer(data, viscosity=VISCOSITY, viscosity_std=0.1 * VISCOSITY)
    xr.testing.assert_identical(data, before)
    np.testing.assert_allclose(found["self_diffusivity"], INFINITE, rtol=1e-12)
    assert found.attrs["finite_size_correction"] == "Yeh-Hummer"
    assert found["self_diffusivity"].attrs["units"] == "m2 s-1"
    spread = found["self_diffusivity_draw"].std("draw")
    np.testing.assert_allclose(spread, found["self_diffusivity_std"], rtol=0.1)
    assert (found["self_diffusivity_std"] > data["self_diffusivity_std"]).all()


def test_unknown_error_stays_unknown():
    found = yeh_hummer(boxed([2e-9]), viscosity=VISCOSITY)
    assert np.isnan(found["self_diffusivity_std"]).all()
    assert np.isnan(found["viscosity_std"]).all()


def test_refusals_say_everything_at_once():
    data = boxed([2e-9])
    data.attrs = {"frame": "lab", "finite_size_correction": "Yeh-Hummer"}
    with pytest.raises(ValueError, match="corrected already.*host.*-1.0"):
        yeh_hummer(data, viscosity=-1.0)
