"""Measured points → Laws → cell: the numbers that a modeller would check first."""

from __future__ import annotations

import numpy as np
import pytest

from continuum.cell import discharge, pybamm
from couplers.battery import LAW_KEYS, inputs, parameter_values
from couplers.electrolyte import binary_electrolyte
from couplers.fits import fit_laws
from couplers.liquid import landesfeind_ec_emc
from tests.couplers.half_cell import exact_limit, last_in_half_cell, last_in_slab, limit
from tests.couplers.measured import properties

WHERE = {"concentration": 1000.0, "temperature": 298.15}


def test_twenty_points_without_noise_discharge_as_pybamms_own_functions() -> None:
    own = pybamm.ParameterValues("ORegan2022")
    by_hand = pybamm.ParameterValues("Chen2020")
    by_hand.update({key: own[key] for key in LAW_KEYS.values()})
    found = fit_laws(properties(0.0, stated=1e-3), draws=2)
    ours = discharge(parameter_values(binary_electrolyte(found, **WHERE)), c_rates=[1.0, 2.0])
    theirs = discharge(by_hand, c_rates=[1.0, 2.0])
    difference = 1e3 * abs(ours["voltage"] - theirs["voltage"])
    assert (difference.max(("draw", "time")) < 0.5).all()
    plain = discharge(pybamm.ParameterValues("Chen2020"), c_rates=[1.0, 2.0])
    assert float(1e3 * abs(plain["voltage"] - theirs["voltage"]).max()) > 10


def test_band_of_the_voltage_holds_the_truth() -> None:
    """Three campaigns of the hundred in the benchmark: the rank of the truth among 39 draws."""
    names = list(LAW_KEYS)
    coarse = {"x_n": 10, "x_s": 6, "x_p": 10}
    arguments = {"c_rates": [1.0], "time_points": 13, "mesh_points": coarse}
    exact = discharge(parameter_values(landesfeind_ec_emc()), **arguments)["voltage"].values[0, 0]
    ranks = []
    for seed in range(3):
        found = fit_laws(properties(0.1, seed=40 + seed), draws=156, seed=seed)
        drawn = [binary_electrolyte(found, **WHERE, draw=draw) for draw in range(0, 156, 4)]
        values = parameter_values(drawn[0], as_inputs=names)
        volts = discharge(values, inputs=[inputs(one, names) for one in drawn], **arguments)
        volts = volts["voltage"].values[0]
        kept = np.isfinite(exact) & np.isfinite(volts).all(axis=0)
        kept[0] = False
        ranks.append((volts[:, kept] < exact[kept]).mean(axis=0))
        spread = 1e3 * volts[:, kept].std(axis=0)
        assert (spread > 0.3).all()
        assert (spread < 20).all()
    inside = [(rank > 0.025) & (rank < 0.975) for rank in ranks]
    assert np.mean(np.concatenate(inside)) > 0.6


def test_limiting_current_of_one_law_is_the_same_in_fem_and_in_pybamm() -> None:
    found = fit_laws(properties(0.1, seed=0), draws=2)
    electrolyte = binary_electrolyte(found, concentration=400.0, temperature=298.15)
    exact = exact_limit(electrolyte, 100e-6)
    slab = limit(last_in_slab, electrolyte, 100e-6, exact)
    cell = limit(last_in_half_cell, electrolyte, 100e-6, exact)
    assert slab == pytest.approx(exact, rel=2e-3)
    assert cell == pytest.approx(slab, rel=1e-2)
    assert cell == pytest.approx(exact, rel=1e-2)
