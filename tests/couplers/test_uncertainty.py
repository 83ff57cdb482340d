from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from couplers.fits import evaluate, fit_laws
from couplers.uncertainty import budget, worth_lengthening, worth_lengthening_liquid
from tests.couplers.measured import points, properties


def draws(
    rng: np.random.Generator,
    *,
    model: float,
    fit: float,
    sampling: float,
    sizes: list[list[int]],
) -> xr.DataArray:
    """Nested draws of known variances; `sizes` holds the draws of each form of each member."""
    value, member, form = [], [], []
    for i, forms in enumerate(sizes):
        of_member = rng.normal(0, model)
        for j, count in enumerate(forms):
            of_form = rng.normal(0, fit)
            value += list(3.7 + of_member + of_form + rng.normal(0, sampling, count))
            member += [f"potential {i}"] * count
            form += [f"form {j}"] * count
    return xr.DataArray(
        value,
        dims="draw",
        coords={"member": ("draw", member), "form": ("draw", form)},
        attrs={"units": "V"},
    )


BALANCED = [[20, 20]] * 6
UNBALANCED = [[5, 30], [12, 3, 9], [40, 2], [7, 7], [25, 4, 1], [3, 18]]
LABELS = {"model": "member", "fit": "form"}


@pytest.mark.parametrize("sizes", [BALANCED, UNBALANCED])
def test_known_variances_are_recovered_without_bias(sizes: list[list[int]]) -> None:
    """The mean of 400 estimates lies within 4 of its own errors of each known variance."""
    rng = np.random.default_rng(7)
    truth = {"model": 0.05, "fit": 0.03, "sampling": 0.02}
    estimates = np.array(
        [
            budget(draws(rng, **truth, sizes=sizes), labels=LABELS)["standard_deviation"].values
            for _ in range(400)
        ]
    )
    variance, exact = estimates**2, np.array(list(truth.values())) ** 2
    error = variance.std(axis=0) / np.sqrt(400)
    # a negative estimate set to 0 can only raise the mean; it is rare at these sizes
    assert np.all(np.abs(variance.mean(axis=0) - exact) < 4 * error)
    assert np.all(error < 0.06 * exact + 1e-5)


def test_without_a_source_its_share_is_small() -> None:
    rng = np.random.default_rng(3)
    one = budget(draws(rng, model=0.05, fit=0, sampling=0.01, sizes=[[50, 50]] * 20), labels=LABELS)
    assert one["share"].sel(source="model") > 0.8
    assert one["share"].sel(source="fit") < 0.02
    other = budget(draws(rng, model=0, fit=0.05, sampling=0.0, sizes=[[5] * 10] * 8), labels=LABELS)
    assert other["share"].sel(source="fit") > 0.8


def test_two_balanced_levels_agree_with_the_textbook_formula() -> None:
    values = draws(np.random.default_rng(5), model=1, fit=0, sampling=1, sizes=[[8]] * 5)
    table = values.values.reshape(5, 8)
    within = table.var(axis=1, ddof=1).mean()
    between = table.mean(axis=1).var(ddof=1) - within / 8
    result = budget(values, labels={"model": "member"})
    assert result["standard_deviation"].values ** 2 == pytest.approx([between, within], rel=1e-12)
    # chi-square errors of the two mean squares
    error = np.hypot((between + within / 8) * np.sqrt(2 / 4), within / 8 * np.sqrt(2 / 35))
    given = (2 * result["standard_deviation"] * result["standard_deviation_std"]).values
    assert given == pytest.approx([error, within * np.sqrt(2 / 35)], rel=1e-12)


def test_error_of_the_shares_covers_the_truth() -> None:
    """The stated error of the sampling variance has the scatter of repeated experiments."""
    rng = np.random.default_rng(11)
    results = [
        budget(draws(rng, model=0.05, fit=0.03, sampling=0.02, sizes=BALANCED), labels=LABELS)
        for _ in range(300)
    ]
    deviation = np.array([one["standard_deviation"].values for one in results])
    stated = np.array([one["standard_deviation_std"].values for one in results])
    scatter = deviation.std(axis=0)
    assert np.nanmedian(stated, axis=0) == pytest.approx(scatter, rel=0.3)


def test_total_is_the_root_of_the_sum_of_squares_in_the_own_unit() -> None:
    values = draws(np.random.default_rng(2), model=1, fit=1, sampling=1, sizes=BALANCED)
    result = budget(values, labels=LABELS)
    total = float(np.sqrt((result["standard_deviation"] ** 2).sum()))
    assert float(result["total_standard_deviation"]) == pytest.approx(total)
    assert float(result["share"].sum()) == pytest.approx(1.0)
    assert result["standard_deviation"].attrs["units"] == "V"
    assert result["share"].attrs["units"] == "1"
    assert float(result["mean"]) == pytest.approx(float(values.mean()))
    millivolts = (values * 1e3).assign_attrs(units="mV")
    scaled = budget(millivolts, labels=LABELS)
    assert float(scaled["total_standard_deviation"]) == pytest.approx(1e3 * total)


def test_one_member_leaves_the_model_unknown_not_zero() -> None:
    values = draws(np.random.default_rng(2), model=1, fit=1, sampling=1, sizes=[[9, 9]])
    result = budget(values, labels=LABELS)
    assert np.isnan(result["standard_deviation"].sel(source="model"))
    assert result["standard_deviation"].sel(source=["fit", "sampling"]).notnull().all()
    assert result.attrs["outcome"].startswith("model could not be told")


def test_one_form_a_member_leaves_the_fit_unknown() -> None:
    values = draws(np.random.default_rng(2), model=1, fit=1, sampling=1, sizes=[[9]] * 5)
    result = budget(values, labels=LABELS)
    assert np.isnan(result["standard_deviation"].sel(source="fit"))
    plain = budget(values, labels={"model": "member"})
    assert result["standard_deviation"].values[[0, 2]] == pytest.approx(
        plain["standard_deviation"].values
    )


def test_same_form_of_two_members_is_two_groups() -> None:
    values = draws(np.random.default_rng(2), model=1, fit=1, sampling=1, sizes=BALANCED)
    label = [
        f"{m}, {f}" for m, f in zip(values["member"].values, values["form"].values, strict=True)
    ]
    relabelled = values.assign_coords(form=("draw", label))
    assert budget(relabelled, labels=LABELS).identical(budget(values, labels=LABELS))


def test_failed_draws_are_left_out_and_counted_for_each_quantity() -> None:
    values = draws(np.random.default_rng(2), model=1, fit=1, sampling=1, sizes=UNBALANCED)
    two = xr.concat([values, values], dim="condition").assign_attrs(units="V")
    two[1, [0, 5, 50]] = np.nan
    result = budget(two, labels=LABELS)
    assert result["draws_failed"].values.tolist() == [0, 3]
    alone = budget(values.isel(draw=two[1].notnull().values), labels=LABELS)
    assert result["standard_deviation"].isel(condition=1).values == pytest.approx(
        alone["standard_deviation"].values, rel=1e-12
    )
    assert result["standard_deviation"].isel(condition=0).values == pytest.approx(
        budget(values, labels=LABELS)["standard_deviation"].values, rel=1e-12
    )


def test_values_far_from_zero_keep_their_digits() -> None:
    values = draws(np.random.default_rng(2), model=1e-3, fit=1e-3, sampling=1e-3, sizes=BALANCED)
    far = (values + 1e6).assign_attrs(units="V")
    assert budget(far, labels=LABELS)["standard_deviation"].values == pytest.approx(
        budget(values, labels=LABELS)["standard_deviation"].values, rel=1e-5
    )


def test_all_draws_failed_is_unknown() -> None:
    values = draws(np.random.default_rng(2), model=1, fit=1, sampling=1, sizes=BALANCED)
    result = budget((values * np.nan).assign_attrs(units="V"), labels=LABELS)
    assert result["standard_deviation"].isnull().all()
    assert np.isnan(result["total_standard_deviation"])
    assert int(result["draws_failed"]) == 240


def test_faults_are_listed_together() -> None:
    values = xr.DataArray(np.zeros(3), dims="sample")
    with pytest.raises(ValueError) as error:
        budget(values, labels={"model": "member"}, remainder="model")
    for word in ("expected 'draw'", "no units", "'member' is not a coordinate", "names both"):
        assert word in str(error.value)


HEAT = np.array([500.0, 580.0, 700.0, 900.0])
ERRORS = np.array([0.2, 0.08, 0.15, 0.05])


def transport(errors: np.ndarray = ERRORS, *, draws: int = 20000) -> xr.Dataset:
    """Draws about an Arrhenius line; the last condition is not diffusive."""
    rng = np.random.default_rng(4)
    noise = errors[:, None] * rng.standard_normal((len(errors), draws))
    conductivity = np.exp(3000 * (1 / 300 - 1 / HEAT[:, None]) + noise)
    conductivity = np.vstack([conductivity, np.full(draws, np.nan)])
    return xr.Dataset(
        {
            "temperature": ("condition", [*HEAT, 400.0]),
            "conductivity_draw": (("condition", "draw"), conductivity),
        }
    )


def fitted_scatter(errors: np.ndarray) -> float:
    """Scatter of ln y(300 K) over many weighted fits to noisy points, by brute force."""
    rng = np.random.default_rng(9)
    noise = errors[:, None] * rng.standard_normal((4, 20000))
    line = np.polyfit(1 / HEAT, noise, 1, w=1 / errors)
    return float((line[0] / 300 + line[1]).std())


def test_error_at_the_target_is_that_of_many_fits() -> None:
    result = worth_lengthening(transport(), temperature=300.0, factor=3.0)
    assert float(result["relative_error"]) == pytest.approx(fitted_scatter(ERRORS), rel=0.03)
    for condition in range(4):
        shorter = ERRORS.copy()
        shorter[condition] /= np.sqrt(3)
        after = float(result["relative_error_if_longer"][condition])
        assert after == pytest.approx(fitted_scatter(shorter), rel=0.03)
    assert np.isnan(result["relative_error_if_longer"][4])
    assert result["relative_error_of_condition"].values[:4] == pytest.approx(ERRORS, rel=0.03)


def test_advice_names_the_condition_that_gains_most() -> None:
    result = worth_lengthening(transport(), temperature=300.0)
    best = int(np.nanargmin(result["relative_error_if_longer"].values))
    assert f"Run {float(result['temperature'][best]):g} K longer" in result.attrs["advice"]
    other = worth_lengthening(transport(np.full(4, 0.1)), temperature=1000.0)
    assert "Run 900 K longer" in other.attrs["advice"]


def test_difference_between_members_does_not_count() -> None:
    one = transport()
    shift = np.where(np.arange(20000) < 10000, 1.0, 2.0)
    two = one.assign(
        conductivity_draw=one["conductivity_draw"] * xr.DataArray(shift, dims="draw"),
        member=("draw", np.where(shift == 1, "a", "b")),
    )
    a = float(worth_lengthening(one, temperature=300.0)["relative_error"])
    b = float(worth_lengthening(two, temperature=300.0)["relative_error"])
    assert a == pytest.approx(b, rel=1e-3)


def test_what_cannot_be_lengthened_is_refused() -> None:
    with pytest.raises(ValueError) as error:
        worth_lengthening(transport(), temperature=-1.0, quantity="viscosity", factor=1.0)
    for word in ("no viscosity_draw", "-1.0 K", "factor is 1.0"):
        assert word in str(error.value)
    with pytest.raises(ValueError, match="a line needs two"):
        worth_lengthening(transport().isel(condition=[3, 4]), temperature=300.0)


def straight(noise: np.ndarray, *, seed: int = 0) -> xr.Dataset:
    """A diffusivity that is Arrhenius and of one slope in sqrt(c), seen with these errors."""
    c, T = points()
    rng = np.random.default_rng(seed)
    D = 1e-10 * np.exp(-0.4 * np.sqrt(c / 1000) - 2000 * (1 / T - 1 / 298.15))
    seen = D * np.exp(noise * rng.standard_normal(len(c)))
    given = properties(0.1)[["temperature", "salt_concentration"]]
    given["salt_diffusivity"] = ("condition", seen, {"units": "m2 s-1"})
    given["salt_diffusivity_std"] = ("condition", noise * seen, {"units": "m2 s-1"})
    return given


def scatter_at(noise: np.ndarray, c: float, T: float) -> float:
    """Scatter of ln D at (c, T) over weighted fits of the true form, in closed form."""
    at_c, at_T = points()
    reference = 1 / (1 / at_T).mean()
    X = np.stack([np.ones(20), np.sqrt(at_c / 1000), reference / at_T - 1], axis=1)
    here = np.array([1.0, np.sqrt(c / 1000), reference / T - 1])
    return float(np.sqrt(here @ np.linalg.solve(X.T @ (X / noise[:, None] ** 2), here)))


def test_condition_of_a_liquid_to_run_longer_is_that_of_exact_least_squares() -> None:
    noise = np.full(20, 0.02)
    noise[[3, 11]] = 0.002
    given = straight(noise)
    laws = fit_laws(given, draws=1500)
    assert laws.attrs["form_salt_diffusivity"].startswith("1,0:")
    at = evaluate(laws, np.array([1500.0]), np.array([285.0]))["salt_diffusivity_draw"][0]
    found = worth_lengthening_liquid(given, laws, np.log(at).assign_attrs(units="1"), factor=4.0)
    now = scatter_at(noise, 1500.0, 285.0)
    # the draws hold other forms too, which the linear part does not know
    assert float(found["standard_deviation"]) == pytest.approx(now, rel=0.1)
    after = []
    for condition in range(20):
        shorter = np.where(np.arange(20) == condition, noise / 2, noise)
        after.append(scatter_at(shorter, 1500.0, 285.0))
    gain = now - np.array(after)
    seen = (found["standard_deviation"] - found["standard_deviation_if_longer"]).values
    assert int(np.argmax(seen)) == int(np.argmax(gain))
    assert seen == pytest.approx(gain, abs=0.15 * gain.max())
    best = int(np.argmax(gain))
    c, T = (one[best] for one in points())
    assert found.attrs["advice"].startswith(f"Run {c:g} mol m-3 at {T:g} K longer: 4 times")


def test_a_quantity_that_the_laws_do_not_move_is_not_explained() -> None:
    given = straight(np.full(20, 0.05))
    laws = fit_laws(given, draws=400)
    noise = np.random.default_rng(0).standard_normal(400)
    noise[7] = np.nan
    values = xr.DataArray(noise, dims="draw", attrs={"units": "V"})
    assert float(worth_lengthening_liquid(given, laws, values)["explained"]) < 0.1
    at = evaluate(laws, np.array([1000.0]), np.array([298.15]))["salt_diffusivity_draw"][0]
    own = worth_lengthening_liquid(given, laws, at)
    assert float(own["explained"]) > 0.25
    alike = (laws["form"] == laws["form"][int(np.argmax(laws["form"].values == "1,0"))]).values
    assert alike.sum() > 50
    same = worth_lengthening_liquid(given, laws, at.where(alike).assign_attrs(units="m2 s-1"))
    assert float(same["explained"]) > 0.99, "among draws of one form all is linear"


def test_liquid_values_that_do_not_belong_to_the_laws_are_refused() -> None:
    given = straight(np.full(20, 0.05))
    laws = fit_laws(given, draws=4)
    with pytest.raises(ValueError) as error:
        worth_lengthening_liquid(given, laws, xr.DataArray([1.0], dims="draw"), factor=1.0)
    for word in ("expected one for each of the 4 draws", "no units", "factor is 1.0"):
        assert word in str(error.value)
    four = xr.DataArray(np.arange(4.0), dims="draw", attrs={"units": "V"})
    with pytest.raises(ValueError, match="4 draws have a value, but the laws have 3 coefficients"):
        worth_lengthening_liquid(given, laws, four)
