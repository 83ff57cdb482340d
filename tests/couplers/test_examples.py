"""The literate scripts of the couplers' examples say what they must."""

import numpy as np


def test_inner_layer_of_one_concentration_predicts_another_within_its_error(example, tmp_path):
    study = example("double_layer_matching")
    one, draws = study.prediction_with_error()
    exact = study.truth()["differential_capacitance"].values
    assert one["converged"].all() and draws["converged"].all()
    assert int(one["iterations"].max()) <= 12
    found = one["differential_capacitance"].values
    np.testing.assert_allclose(found, exact, rtol=0.03)
    # what was measured, at ten times the salt, is another curve
    rest = len(exact) // 2
    measured = study.simulated_capacitance()
    total = np.interp(one["potential"], measured["potential"], measured["differential_capacitance"])
    assert total[rest] > 1.5 * exact[rest]
    std = draws["differential_capacitance"].std("draw").values
    # the estimates scatter about the truth as the draws do about them
    assert np.mean(np.abs(found - exact) < 2.5 * std) > 0.8
    assert np.median(std / exact) > 1e-3
    matched = study.with_mean_forces()
    assert matched["converged"].all()
    charge = matched["surface_charge"].values
    assert charge[0] < 0 < charge[2] and abs(charge[1]) < 1e-3
    study.draw(one, draws, study.truth(), tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 10_000


def test_cell_goes_to_bpx_and_back(example, tmp_path):
    study = example("bpx_exchange")
    lost = study.exchange(tmp_path)
    assert "BPX has none" in lost["Thermodynamic factor"]
    assert lost[study.LAYER] == "BPX has no double layer"
    volts, ohms = study.differences(tmp_path, rate=0.5)
    assert volts < 0.1
    assert ohms < 1e-6
    assert len(study.electrolytes_of_bpx(tmp_path / "cell.json")) == 6
