"""Laws of a liquid from scattered points: limits, errors that cover, one number everywhere."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import xarray as xr
from scipy.constants import gas_constant

from continuum.cell import pybamm
from continuum.inputs import FARADAY
from continuum.laws import FORMS, SERIES, Law
from couplers.contract import ContractError
from couplers.evidence import candidates
from couplers.fits import LAWS, evaluate, fit_laws, held_out, laws_of
from couplers.newman import NEWMAN, newman
from couplers.uncertainty import budget
from tests.couplers.measured import CONCENTRATIONS, points, properties, transport, truth

GRID = [(c, T) for c in (150.0, 1000.0, 2900.0) for T in (265.0, 298.15, 320.0)]


@pytest.fixture(scope="module")
def laws() -> xr.Dataset:
    return fit_laws(properties(0.1, seed=1), draws=100)


@pytest.mark.parametrize("label", [field for field, _ in LAWS.values()])
def test_one_law_gives_one_number_in_numpy_pybamm_and_ufl(laws: xr.Dataset, label: str) -> None:
    ufl = pytest.importorskip("ufl")
    for draw in (None, 3):
        law = laws_of(laws, draw=draw)[label]
        for c, T in GRID:
            number = law(c, T)
            in_pybamm = law(pybamm.Scalar(c), pybamm.Scalar(T), exp=pybamm.exp).evaluate()
            in_ufl = float(law(ufl.as_ufl(c), ufl.as_ufl(T), exp=ufl.exp))
            assert float(in_pybamm) == pytest.approx(number, rel=1e-9, abs=0)
            assert in_ufl == pytest.approx(number, rel=1e-9, abs=0)
            assert law(np.array([c, c]), np.array([T, T])) == pytest.approx(
                [number] * 2, rel=1e-12, abs=0
            )


@pytest.mark.parametrize("seed", range(5))
def test_bounds_and_limits_hold_whatever_the_coefficients_are(seed: int) -> None:
    rng = np.random.default_rng(seed)
    found = {}
    for name, (field, form) in LAWS.items():
        ahead = (300.0, 150.0) if name != "thermodynamic_factor" else (0.3, 300.0, 150.0)
        series = tuple(rng.normal(0, 0.4, len(SERIES)))
        found[field] = Law(form, ahead + series, NEWMAN["variables"][name]["units"])
    c, T = (one.ravel() for one in np.meshgrid(np.geomspace(1e-6, 4e3, 60), [230.0, 300.0, 400.0]))
    for field in ("conductivity", "diffusivity", "thermodynamic_factor"):
        assert (found[field](c, T) > 0).all()
    assert (found["transference_number"](c, T) < 1).all()
    tiny = np.array([1e-10, 4e-10])
    kappa = found["conductivity"](tiny, 280.0)
    assert kappa[1] / kappa[0] == pytest.approx(4.0, rel=1e-4)
    factor = np.log(found["thermodynamic_factor"](tiny, 280.0))
    assert factor == pytest.approx([0.0, 0.0], abs=1e-4)
    assert factor[1] / factor[0] == pytest.approx(2.0, rel=1e-4), "the root of c"
    D = found["diffusivity"](tiny, 280.0)
    assert D[1] / D[0] == pytest.approx(1.0, rel=1e-4)


def test_transference_number_may_be_negative() -> None:
    cold = evaluate(fit_laws(properties(0.02), draws=20), np.array([2000.0]), np.array([270.0]))
    assert float(cold["transference_number"][0]) < 0
    assert truth("transference_number", 2000.0, 270.0) < 0


def test_points_without_noise_are_met() -> None:
    """Twenty points, stated to 0.1 %; between them the laws follow to 2 %."""
    given = properties(0.0, stated=1e-3)
    found = fit_laws(given, draws=20)
    at = evaluate(found, *points())
    c, T = (one.ravel() for one in np.meshgrid(np.linspace(250, 2300, 9), (275.0, 290.0, 310.0)))
    between = evaluate(found, c, T)
    for name in LAWS:
        scale = 1 - truth(name, *points()) if name == "transference_number" else given[name]
        assert np.abs((at[name] - given[name]) / scale).max() < 0.01
        exact = truth(name, c, T)
        scale = 1 - exact if name == "transference_number" else exact
        assert np.abs((between[name] - exact) / scale).max() < 0.03


def test_known_coefficients_come_back_with_their_covariance() -> None:
    """Data of one Law of the family: its coefficients, their scatter and what the fit states."""
    c, T = points()
    form = LAWS["salt_diffusivity"][1]
    series = dict.fromkeys(SERIES, 0.0) | {"a00": -22.0, "a10": -0.4, "a01": -6.0}
    reference = float(1 / (1 / T).mean())
    law = Law(form, (reference, 0.0, *series.values()), "m2 s-1")
    rng = np.random.default_rng(5)
    seen, stated = [], []
    for _ in range(60):
        D = law(c, T) * np.exp(0.05 * rng.standard_normal(len(c)))
        given = properties(0.05)[["temperature", "salt_concentration"]]
        given["salt_diffusivity"] = ("condition", D, {"units": "m2 s-1"})
        given["salt_diffusivity_std"] = ("condition", 0.05 * D, {"units": "m2 s-1"})
        found = fit_laws(given, draws=2)
        if found.attrs["form_salt_diffusivity"].startswith("1,0:"):
            pick = [f"salt_diffusivity: {name}" for name in ("a00", "a10", "a01")]
            seen.append(found["value"].sel(coefficient=pick).values)
            stated.append(
                found["covariance"].sel(coefficient=pick).values[:, _columns(found, pick)]
            )
    assert len(seen) > 30, "the true form is found"
    scatter = np.cov(np.array(seen).T)
    assert np.abs(np.mean(seen, axis=0) - [-22.0, -0.4, -6.0]) == pytest.approx(
        np.zeros(3), abs=4 * np.sqrt(np.diag(scatter) / len(seen)).max()
    )
    np.testing.assert_allclose(np.sqrt(np.diag(scatter)), np.sqrt(np.diag(stated[0])), rtol=0.35)
    assert np.sign(scatter[0, 1]) == np.sign(stated[0][0, 1]) == -1


def _columns(found: xr.Dataset, names: list[str]) -> list[int]:
    return [found["coefficient"].values.tolist().index(name) for name in names]


def test_intervals_cover_the_truth_away_from_the_points() -> None:
    """A light version of the benchmark: 12 noisy campaigns, 10 points that none measured."""
    c = np.array([350.0, 800, 1300, 2000, 350, 800, 1300, 2000, 1000, 1000])
    T = np.array([298.15] * 4 + [275.0, 290, 305, 275, 278, 312])
    inside = dict.fromkeys(LAWS, 0.0)
    for seed in range(12):
        found = evaluate(fit_laws(properties(0.1, seed=100 + seed), draws=300), c, T)
        for name in LAWS:
            low, high = np.percentile(found[f"{name}_draw"], [2.5, 97.5], axis=1)
            exact = truth(name, c, T)
            inside[name] += ((low <= exact) & (exact <= high)).mean() / 12
    assert 0.88 < np.mean(list(inside.values())) < 0.995
    assert min(inside.values()) > 0.8


def test_left_out_points_lie_where_they_should() -> None:
    given = properties(0.1, seed=4)
    deviation = [held_out(given, at)["deviation"].values for at in (1, 7, 12, 18)]
    assert np.sqrt(np.mean(np.square(deviation))) == pytest.approx(1.0, abs=0.5)
    moved = given.copy(deep=True)
    moved["conductivity"][7] *= 2.0
    far = held_out(moved, 7)["deviation"].sel(property="conductivity")
    assert float(far) > 4


def test_errors_that_are_stated_too_small_are_widened_and_it_is_said() -> None:
    given = properties(0.1, seed=2, stated=0.02)
    found = fit_laws(given, draws=400)
    for name in LAWS:
        assert f"the errors of {name} are multiplied by" in found.attrs["misfit"]
        assert 3 < found.attrs[f"inflation_{name}"] < 9
    honest = fit_laws(properties(0.1, seed=2), draws=400)
    assert honest.attrs["misfit"] == "every law meets its points within the stated errors"
    here = (np.array([1300.0]), np.array([290.0]))
    for name in LAWS:
        ratio = evaluate(found, *here)[f"{name}_std"] / evaluate(honest, *here)[f"{name}_std"]
        assert 0.4 < float(ratio[0]) < 2.5


def test_errors_that_are_not_known_are_taken_from_the_scatter() -> None:
    given = properties(0.1, seed=3)
    given["salt_diffusivity_std"][:] = np.nan
    found = fit_laws(given, draws=300)
    assert "the errors of salt_diffusivity are not known" in found.attrs["misfit"]
    here = evaluate(found, np.array([1000.0]), np.array([298.15]))
    assert 0.01 < float((here["salt_diffusivity_std"] / here["salt_diffusivity"])[0]) < 0.12
    with pytest.raises(ValueError, match="2 conditions are too few to take it from their scatter"):
        fit_laws(given.isel(condition=[0, 1]))


def test_choice_of_forms_can_be_told_from_sampling() -> None:
    found = fit_laws(properties(0.1, seed=6), draws=401)
    form = found["form"].values.reshape(-1)[:400].reshape(100, 4)
    assert (form == form[:, :1]).all()
    assert len(np.unique(form)) > 20
    at = evaluate(found, np.array([2200.0]), np.array([270.0]))["transference_number_draw"][0]
    parts = budget(at.assign_attrs(units="1"), labels={"fit": "form"})
    share = parts["share"]
    assert (share > 0.02).all()
    assert float(share.sum()) == pytest.approx(1.0)


def test_correlated_draws_stay_correlated() -> None:
    """Conductivity and diffusivity rise and fall together in the matrix, so they do in the Laws."""
    given = newman(transport(spread=0.1, draws=300))
    found = evaluate(fit_laws(given, draws=400), np.array([1000.0]), np.array([298.15]))
    rows = [
        np.log(found[f"{name}_draw"].values[0]) for name in ("conductivity", "salt_diffusivity")
    ]
    assert np.corrcoef(*rows)[0, 1] > 0.5
    apart = given.drop_vars([name for name in given if str(name).endswith("_draw")])
    found = evaluate(fit_laws(apart, draws=400), np.array([1000.0]), np.array([298.15]))
    rows = [
        np.log(found[f"{name}_draw"].values[0]) for name in ("conductivity", "salt_diffusivity")
    ]
    assert abs(np.corrcoef(*rows)[0, 1]) < 0.3


def test_members_of_a_committee_keep_their_own_draws() -> None:
    given = newman(transport(draws=120))
    member = np.repeat(["one", "other"], 60)
    given = given.assign_coords(member=("draw", member))
    shifted = given["conductivity_draw"] * xr.DataArray(
        np.where(member == "one", 0.8, 1.25), dims="draw"
    )
    given["conductivity_draw"] = shifted.assign_attrs(units="S m-1")
    found = fit_laws(given, draws=100)
    at = evaluate(found, np.array([1000.0]), np.array([298.15]))
    one, other = (at["conductivity_draw"][0, at["member"] == name] for name in ("one", "other"))
    assert one.size == other.size == 50
    assert float(other.mean() / one.mean()) == pytest.approx(1.25 / 0.8, rel=0.05)
    assert float(one.max()) < float(other.min())
    exact = truth("conductivity", 1000.0, 298.15)
    assert float(at["conductivity"][0]) == pytest.approx(exact, rel=0.05)


@pytest.mark.parametrize("cold", [True, False])
def test_vogel_is_found_where_the_data_ask_for_it(cold: bool) -> None:
    T = np.linspace(240.0, 360.0, 9)
    vanishing = 180.0 if cold else 0.0
    exponent = 700.0 / (T - vanishing) if cold else 2500.0 / T
    D = 1e-8 * np.exp(-exponent)
    given = properties(0.01)[["temperature", "salt_concentration"]].isel(condition=slice(0, 9))
    given["temperature"] = ("condition", T, {"units": "K"})
    given["salt_concentration"] = ("condition", np.full(9, 1000.0), {"units": "mol m-3"})
    rng = np.random.default_rng(0)
    seen = D * np.exp(0.01 * rng.standard_normal(9))
    given["salt_diffusivity"] = ("condition", seen, {"units": "m2 s-1"})
    given["salt_diffusivity_std"] = ("condition", 0.01 * seen, {"units": "m2 s-1"})
    found = fit_laws(given, draws=400)
    zeros = found["value_draw"].sel(coefficient="salt_diffusivity: vanishing_temperature")
    vogel = zeros.values[zeros.values > 0]
    if cold:
        assert len(vogel) > 200
        assert np.median(vogel) == pytest.approx(180.0, abs=40.0)
    else:
        assert len(vogel) < 200


def test_what_the_points_cannot_tell_is_no_candidate() -> None:
    one = np.full(4, 1000.0)
    heat = np.array([270.0, 290.0, 310.0, 330.0])
    assert all(max(shape.powers) == 0 for shape in candidates(one, heat))
    assert all(len(shape.powers) == 1 for shape in candidates(heat, one))
    assert max(shape.terms for shape in candidates(heat, heat)) == 3
    single = fit_laws(properties(0.1).isel(condition=[0]), draws=10)
    assert "has as many terms as conditions" in single.attrs["misfit"]
    law = laws_of(single)["conductivity"]
    assert law.concentration_window == (200.0, 200.0)
    assert "outside the law's window" in law.outside(1000.0, 268.15)


def test_dilute_limits_that_agree_have_the_ratio_of_one() -> None:
    """Nernst and Hartley: ions that do not see each other have all four in closed form."""
    c, T = points(concentrations=(10.0, 40.0, 90.0, 160.0))
    plus, minus = 1e-9, 2e-9
    given = properties(0.0, stated=1e-3, concentrations=(10.0, 40.0, 90.0, 160.0))
    for name, value in {
        "conductivity": FARADAY**2 * c * (plus + minus) / (gas_constant * T),
        "salt_diffusivity": np.full(len(c), 2 * plus * minus / (plus + minus)),
        "transference_number": np.full(len(c), plus / (plus + minus)),
        "thermodynamic_factor": np.ones(len(c)),
    }.items():
        units = given[name].attrs
        given[name] = ("condition", value, units)
        given[f"{name}_std"] = ("condition", 1e-3 * value, units)
    found = fit_laws(given, draws=100)
    assert float(found["nernst_hartley_ratio"]) == pytest.approx(1.0, abs=0.01)
    given["salt_diffusivity"] = (1.5 * given["salt_diffusivity"]).assign_attrs(units="m2 s-1")
    assert float(fit_laws(given, draws=10)["nernst_hartley_ratio"]) == pytest.approx(1.5, abs=0.02)


def ideal(noise: float, seed: int = 0) -> xr.Dataset:
    """Ions that do not see each other, measured well away from the dilute limit."""
    c, T = points()
    given = properties(noise)
    rng = np.random.default_rng(seed)
    walden = np.exp(-1800 * (1 / T - 1 / 298.15) - 0.5 * c / 1000)
    plus, minus = 4e-10 * walden, 6e-10 * walden
    for name, value in {
        "conductivity": FARADAY**2 * c * (plus + minus) / (gas_constant * T),
        "salt_diffusivity": 2 * plus * minus / (plus + minus),
        "transference_number": plus / (plus + minus),
        "thermodynamic_factor": np.ones(len(c)),
    }.items():
        units = given[name].attrs
        size = 1 - value if name == "transference_number" else value
        given[name] = ("condition", value + noise * size * rng.standard_normal(len(c)), units)
        given[f"{name}_std"] = ("condition", noise * size, units)
    return given


def test_diffusivity_can_be_tied_to_the_dilute_limit_of_the_other_laws() -> None:
    """Tied, it is known far better where no point is, and inside nothing moves beyond its error."""
    given = ideal(0.03)
    free, tied = (fit_laws(given, dilute_limit=tie, draws=400) for tie in (None, 0.01))
    assert float(free["nernst_hartley_ratio_std"]) > 0.05
    assert float(tied["nernst_hartley_ratio_std"]) < 0.03
    assert float(tied["nernst_hartley_ratio"]) == pytest.approx(1.0, abs=0.02)
    c, T = np.array([1.0, 1200.0]), np.array([298.15, 298.15])
    truth_here = 4.8e-10 * np.exp(-0.5 * c / 1000)
    for index, shrinks in ((0, True), (1, False)):
        drawn = [evaluate(one, c, T)["salt_diffusivity_draw"][index] for one in (free, tied)]
        spread = [float(np.subtract(*np.percentile(one, [84, 16]))) for one in drawn]
        assert (spread[1] < 0.7 * spread[0]) is shrinks
        assert abs(float(drawn[1].mean()) - truth_here[index]) < 2 * spread[1]
    with pytest.raises(ValueError, match=r"dilute_limit is -1.0.*needs conductivity as well"):
        fit_laws(given.drop_vars(["conductivity", "conductivity_std"]), dilute_limit=-1.0)


def test_where_the_cation_lags_behind_there_is_nothing_to_tie() -> None:
    """A transference number that tends below 0 has no dilute limit of two ions."""
    given = ideal(0.03)
    given["transference_number"] = (given["transference_number"] - 0.6).assign_attrs(units="1")
    free, tied = (fit_laws(given, dilute_limit=tie, draws=20) for tie in (None, 0.01))
    assert free.equals(tied)


def test_faults_are_refused() -> None:
    given = properties(0.1)
    with pytest.raises(ContractError, match="conductivity has units 'mS/cm', expected 'S m-1'"):
        fit_laws(given.assign(conductivity=given["conductivity"].assign_attrs(units="mS/cm")))
    with pytest.raises(ContractError, match="attribute 'frame' is 'mass', expected one of"):
        fit_laws(given.assign_attrs(frame="mass"))
    high = given.copy(deep=True)
    high["transference_number"][0] = 1.2
    with pytest.raises(ValueError, match=r"draws is 1.*transference_number is 1 or more"):
        fit_laws(high, draws=1)
    with pytest.raises(ValueError, match="there is none of conductivity"):
        fit_laws(given[["temperature", "salt_concentration"]])


def test_law_has_the_window_and_the_coefficients_of_its_draw(laws: xr.Dataset) -> None:
    law = laws_of(laws, draw=7)["diffusivity"]
    assert law.concentration_window == (min(CONCENTRATIONS), max(CONCENTRATIONS))
    assert law.temperature_window == (268.15, 318.15)
    own = laws["value_draw"].values[laws["law"].values == "salt_diffusivity", 7]
    assert law.coefficients == tuple(own)
    assert len(own) == len(FORMS[law.form][0])
    assert replace(law) == law


def test_same_seed_same_draws_and_the_input_is_left_alone() -> None:
    given = properties(0.1)
    before = given.copy(deep=True)
    one, other = (fit_laws(given, draws=20, seed=5) for _ in range(2))
    assert one.identical(other)
    assert given.identical(before)
    assert not one.equals(fit_laws(given, draws=20, seed=6))
