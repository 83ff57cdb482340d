"""The literate script of the liquid electrolyte says what it must."""

import numpy as np
import pytest

from couplers.fits import LAWS, evaluate, fit_laws
from couplers.liquid import landesfeind_ec_emc
from couplers.newman import newman
from couplers.propagation import band, discharges
from couplers.uncertainty import budget


@pytest.fixture(scope="module")
def study(example):
    return example("liquid_electrolyte")


def test_noisy_matrices_end_in_a_band_that_holds_the_true_discharge(study, tmp_path):
    points = newman(study.measured(draws=200))
    assert points.attrs["frame"] == "solvent"
    laws = fit_laws(points, draws=60)
    here = evaluate(laws, np.array([1000.0]), np.array([298.15]))
    for name in LAWS:
        exact = getattr(landesfeind_ec_emc(), LAWS[name][0])(1000.0, 298.15)
        away = float((here[name][0] - exact) / here[f"{name}_std"][0])
        assert abs(away) < 3
        error = float(here[f"{name}_std"][0] / (1 - exact if exact < 0.5 else exact))
        assert 0.01 < error < study.NOISE or name == "salt_diffusivity"
    cell = study.voltages(laws, count=60)
    assert cell["solved"].all()
    truth = discharges([landesfeind_ec_emc()])["voltage"][0, 0]
    volts = band(cell["voltage"], levels=[0.02, 0.98])["voltage"][:, 0]
    kept = np.isfinite(truth) & np.isfinite(volts).all("quantile")
    inside = ((volts[0] <= truth) & (truth <= volts[1]))[kept]
    assert float(inside.mean()) > 0.9
    half = study.at_half(cell)
    assert 1e-3 < float(half.std("draw")) < 10e-3
    parts = budget(half, labels={"fit": "form"})
    assert parts["standard_deviation"].notnull().all()
    study.draw(points, laws, cell, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 10_000
