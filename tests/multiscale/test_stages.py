"""The chain from a trajectory of known truth to the voltage."""

from functools import partial

import numpy as np
import pytest
import xarray as xr
from scipy.constants import Avogadro, Boltzmann, elementary_charge, gas_constant

from atomistic.potentials import certificate
from atomistic.schema import TRANSPORT
from continuum.schema import DISCHARGE
from couplers.contract import check
from multiscale import stages, store
from multiscale.case import vary
from multiscale.quantities import ELECTRONVOLT
from tests.multiscale.conftest import BARRIER, LENGTH, TEMPERATURES, true_diffusivity


def true_conductivity(T):
    density = 24 / (LENGTH * 1e-10) ** 3
    diffusivity = true_diffusivity(T) * 1e-8  # Å2/ps in m2/s
    return density * elementary_charge**2 * diffusivity / (Boltzmann * T)


def test_measured_coefficients_cover_the_truth(case, measured):
    transport = measured["transport"].to_dataset()
    check(transport, TRANSPORT)
    for at, T in enumerate(TEMPERATURES):
        sigma = float(transport["nernst_einstein_conductivity"][at])
        error = float(transport["nernst_einstein_conductivity_std"][at])
        assert abs(sigma - true_conductivity(T)) < 4 * error
        assert error < 0.2 * sigma
    line = measured["arrhenius/nernst_einstein_conductivity"].to_dataset()
    low, high = (
        float(line[f"nernst_einstein_conductivity_{end}_95"]) for end in ("lower", "upper")
    )
    assert low < true_conductivity(300.0) < high
    energy = float(line["activation_energy"]) / ELECTRONVOLT
    assert abs(energy - BARRIER) < 4 * float(line["activation_energy_std"]) / ELECTRONVOLT


def test_displacement_is_six_times_diffusivity_and_time(measured):
    moved = measured["displacement"].to_dataset().sel(species="Li")
    lag = moved["lag"].values
    for at, T in enumerate(TEMPERATURES):
        squared = moved["mean_squared_displacement"].values[at]
        expected = 6 * true_diffusivity(T) * 1e-8 * lag
        assert squared[:20] == pytest.approx(expected[:20], rel=0.1, abs=0)


def test_electrolytes_are_the_median_and_draws_of_every_member(case, measured, electrolytes):
    line = measured["arrhenius/nernst_einstein_conductivity"].to_dataset()
    sigma = [float(one.conductivity(one.concentration, 300.0)) for one in electrolytes]
    assert len(sigma) == 1 + case.cell.draws
    assert sigma[0] == pytest.approx(float(line["nernst_einstein_conductivity"]))
    draws = line["nernst_einstein_conductivity_draw"]
    members = {
        str(line["member"].values[int(np.argmin(abs(draws.values - value)))]) for value in sigma[1:]
    }
    assert len(members) == 2
    concentration = 24 / (LENGTH * 1e-10) ** 3 / Avogadro
    assert electrolytes[0].concentration == pytest.approx(concentration)
    diffusivity = float(electrolytes[0].diffusivity(concentration, 300.0))
    assert diffusivity == pytest.approx(
        sigma[0] * gas_constant * 300.0 / (Avogadro * elementary_charge) ** 2 / concentration,
        rel=1e-9,
        abs=0,
    )


def test_slab_is_ohmic_for_every_draw(case, electrolytes, slab):
    assert abs(float(slab["relative_difference"])) < 1e-6
    for electrolyte, drop in zip(electrolytes[1:], slab["potential_drop_draw"].values, strict=True):
        sigma = float(electrolyte.conductivity(electrolyte.concentration, 300.0))
        ohm = case.slab.current_density_A_m2 * case.slab.thickness_m / sigma
        assert drop == pytest.approx(ohm, rel=1e-6)


def test_cell_keeps_its_schema_and_orders_draws_by_conductivity(electrolytes, cell):
    check(cell, DISCHARGE)
    sigma = np.array([float(one.conductivity(one.concentration, 300.0)) for one in electrolytes])
    early = cell["voltage"].values[0, :, 5]
    alive = np.isfinite(early)
    assert alive.sum() > 4
    order = np.argsort(sigma[alive])
    assert (np.diff(early[alive][order]) > 0).all(), "a better conductor holds a higher voltage"


def test_cell_with_our_law_equals_the_constant_typed_by_hand(case, electrolytes):
    from continuum.cell import discharge, pybamm
    from couplers.battery import inputs, parameter_values

    electrolyte = electrolytes[0]
    laws = ("conductivity", "diffusivity")
    values = parameter_values(electrolyte, as_inputs=laws)
    by_hand = parameter_values(electrolyte)
    at = (electrolyte.concentration, electrolyte.temperature)
    typed = {law: float(getattr(electrolyte, law)(*at)) for law in laws}
    by_hand["Electrolyte conductivity [S.m-1]"] = pybamm.InputParameter("conductivity")
    by_hand["Electrolyte diffusivity [m2.s-1]"] = pybamm.InputParameter("diffusivity")
    ours = discharge(values, c_rates=[0.2], inputs=[inputs(electrolyte, laws)])
    theirs = discharge(by_hand, c_rates=[0.2], inputs=[typed])
    difference = (ours["voltage"] - theirs["voltage"]).values
    assert np.isfinite(difference).any()
    assert np.nanmax(np.abs(difference)) < 1e-5


def test_a_draw_beyond_any_steady_state_is_nan_and_the_median_raises(case, electrolytes):
    from continuum.outcome import SolverError

    strong = vary(case, {"slab.current_density_A_m2": 1e9})
    with pytest.raises(SolverError, match="no steady state"):
        stages.conduct(strong, electrolytes)


def here(spread, task, arguments, *, workers, progress):
    """Spread over no other process, where nothing is patched."""
    return spread(task, arguments, workers=1, progress=progress)


def test_run_stores_every_stage_and_recomputes_from_what_changed(
    case, simulated, tmp_path, monkeypatch
):
    runs = []

    def dynamics(case, *, progress=None):
        runs.append("simulate")
        return simulated.copy(deep=True)

    # the certificate itself is tested beside it; here one property stands for all
    monkeypatch.setattr(certificate, "certify", partial(certificate.certify, only=["rotation"]))
    monkeypatch.setattr(stages, "spread", partial(here, stages.spread))
    monkeypatch.setattr(stages, "simulate", dynamics)
    study = vary(case, {"output.folder": str(tmp_path), "cell.draws": 2, "cell.c_rates": (1.0,)})

    def seen(study):
        said = {}
        stages.run(
            study,
            progress=lambda stage, done, total, text: said.update({stage: text}),
        )
        return {stage: text.startswith("reused") for stage, text in said.items()}

    fresh = dict.fromkeys(("certify", "simulate", "measure", "conduct", "discharge"), False)
    assert seen(study) == fresh
    assert seen(study) == dict.fromkeys(fresh, True)
    assert seen(vary(study, {"dynamics.workers": 1})) == dict.fromkeys(fresh, True)
    assert seen(vary(study, {"slab.thickness_m": 1e-5})) == {
        "certify": True, "simulate": True, "measure": True, "conduct": False, "discharge": True,
    }  # fmt: skip
    assert seen(vary(study, {"transport.seed": 5})) == fresh | {"certify": True, "simulate": True}
    assert runs == ["simulate"]
    with xr.open_datatree(tmp_path / "result.nc") as plain:
        assert {"certificate", "transport", "lattice", "cell", "continuum"} <= set(plain.children)
        provenance = store.provenance(plain)
    assert set(provenance["stages"]) == set(fresh)
    assert provenance["case"]["transport"]["seed"] == 5
    assert {len(about["sha256"]) for about in provenance["potentials"].values()} == {64}
    about = provenance["potentials"]["argyrodite-pbe"]
    assert about["teacher"] == "sevennet-0"
    assert about["sound"] is True
    assert "holds 1 of 1 properties" in about["certificate"]


def test_inputs_are_left_as_they_were(case, simulated, measured):
    before = simulated.copy(deep=True), measured.copy(deep=True)
    stages.couple(case, measured)
    stages.measure(case, simulated)
    xr.testing.assert_identical(simulated, before[0])
    xr.testing.assert_identical(measured, before[1])
