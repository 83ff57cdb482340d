"""Vogel beside Arrhenius: coverage, the vanishing temperature, and evidence for the right law."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from scipy import stats

from atomistic.observables.vogel import vogel

TEMPERATURES = np.array([280.0, 300.0, 330.0, 370.0, 420.0, 480.0])


def law(temperature, zero):
    """Conductivity (S/m) of a liquid whose apparent activation energy is near 0.2 eV at 330 K."""
    strength = 2300.0 * (1 - zero / 330.0) ** 2
    return 4e5 / temperature * np.exp(-strength / (temperature - zero))


def measured(rng, zero, error, draws=300):
    noise = error * rng.standard_normal((len(TEMPERATURES), 1))
    spread = error * rng.standard_normal((len(TEMPERATURES), draws))
    sample = law(TEMPERATURES, zero)[:, None] * np.exp(noise + spread)
    return xr.Dataset(
        {
            "temperature": ("condition", TEMPERATURES),
            "conductivity_draw": (("condition", "draw"), sample),
        }
    )


@pytest.mark.parametrize("zero", [0.0, 150.0])
def test_interval_covers_and_evidence_prefers_the_true_law(zero):
    rng = np.random.default_rng(0)
    hits, evidence = [], []
    for repeat in range(60):
        found = vogel(measured(rng, zero, 0.04), temperature=260.0, seed=repeat)
        truth = law(260.0, zero)
        hits.append(
            found["conductivity_lower_95"].item() <= truth <= found["conductivity_upper_95"].item()
        )
        evidence.append(found["log_evidence_ratio"].item())
    # an interval that is wider than need be cannot fail; at T0 = 0 the prior has its edge
    assert sum(hits) >= stats.binom.ppf(0.001, 60, 0.95)
    assert np.median(evidence) > 3 if zero else np.median(evidence) < -0.3


def test_vanishing_temperature_is_found():
    found = vogel(measured(np.random.default_rng(1), 150.0, 0.005), temperature=300.0)
    zero, error = found["vanishing_temperature"].item(), found["vanishing_temperature_std"].item()
    assert abs(zero - 150.0) < 3 * error
    assert error < 40
    assert found["conductivity"].item() == pytest.approx(law(300.0, 150.0), rel=0.1)
    assert found.attrs["verdict"].startswith("interpolated")


def test_two_temperatures_are_refused():
    found = vogel(measured(np.random.default_rng(2), 150.0, 0.05).isel(condition=slice(0, 2)))
    assert found.attrs["verdict"].startswith("refused: 2 of 2")
    assert np.isnan(found["conductivity"])
    with pytest.raises(ValueError, match="vogel: quantity is 'colour'"):
        vogel(measured(np.random.default_rng(2), 150.0, 0.05), quantity="colour")
