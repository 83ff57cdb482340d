"""The literate scripts of the continuum examples say what they must."""

import numpy as np
import pytest


def test_finite_elements_meet_three_theories_of_the_double_layer(example, tmp_path):
    study = example("double_layer_capacitance")
    theory, solved = study.closed_forms(), study.finite_elements(every=20)
    assert len(theory) == 3
    for name in theory:
        expected = theory[name].sel(potential=solved.potential)
        np.testing.assert_allclose(solved[name], expected, rtol=1e-6)
    # the camel: finite ions turn the capacitance down, point ions never
    assert float(theory["steric"].max()) > 2 * float(theory["steric"][-1])
    assert float(theory["Gouy-Chapman"].argmax("potential")) in (0, theory.sizes["potential"] - 1)
    study.draw(theory, solved, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 10_000


def test_small_step_relaxes_with_the_exact_pole_and_large_step_more_slowly(example, tmp_path):
    study = example("charging_transient")
    pole = study.slowest_pole()
    asymptote = study.DIFFUSIVITY / (study.salt().debye_length * study.half_width())
    assert abs(pole / asymptote - 1) > 0.05, "the asymptote would not do"
    times = np.linspace(0.1, 12.0, 120) / pole
    small, large = (
        study.charge(study.SMALL, times, tolerance=1e-8),
        study.charge(study.LARGE, times),
    )
    assert study.rate(small) == pytest.approx(pole, rel=1e-3)
    assert study.rate(large) < 0.7 * pole
    for run in (small, large):
        salt = run["inventory"]
        np.testing.assert_allclose(salt, salt.isel(time=0).broadcast_like(salt), rtol=1e-12)
    middle = large["concentration"].isel(time=-1).sel(x=study.half_width(), method="nearest")
    assert float(middle.sum()) < 0.5 * 2 * study.CONCENTRATION
    study.draw({study.SMALL: small, study.LARGE: large}, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 10_000
