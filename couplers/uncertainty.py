"""Where the uncertainty of a final quantity comes from, in that quantity's own unit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import xarray as xr

from couplers.evidence import posterior
from couplers.fits import predictors, weighed


def budget(
    values: xr.DataArray, *, labels: Mapping[str, str], remainder: str = "sampling"
) -> xr.Dataset:
    r"""Split the variance of draws into the sources that labels name.

    The draws have gone through the solver, so that nothing is linearised. They are nested: a
    potential (model), within it perhaps a form of the law (fit), within that draws of the posterior
    of finite MD (sampling). The random-effects model of level :math:`l`, from the outermost,

    .. math:: y = \mu + a^{(1)} + a^{(2)} + \dots + e, \qquad
              \operatorname{var} a^{(l)} = \sigma_l^2,

    gives with :math:`T_l = \sum_{g \in l} n_g \bar y_g^2` over the groups of level :math:`l`
    (level 0 is all draws in one group, the last one every draw by itself)

    .. math:: E[T_l - T_{l-1}] = \sum_m (k_{lm} - k_{l-1,m})\, \sigma_m^2, \qquad
              k_{lm} = \sum_{g \in l} \sum_{h \in m,\, h \subset g} n_h^2 / n_g
              \quad (m > l), \qquad k_{lm} = N \quad (m \le l),

    which is solved for :math:`\sigma_l^2` (analysis of variance, groups of any size). A negative
    estimate is set to 0. The error of :math:`\sigma_l^2` follows from
    :math:`\operatorname{var}(T_l - T_{l-1}) = 2 (T_l - T_{l-1})^2 / (G_l - G_{l-1})`, which holds
    for normal effects, with the number of groups :math:`G_l`. With two or three potentials it is
    as large as the model share itself: that is the truth about a small committee.

    Parameters
    ----------
    values : xarray.DataArray
        Final quantity (its own unit, in `units`), dims ``draw`` and any others; nan for draws
        that failed, which are left out and counted.
    labels : mapping
        From the outermost source inwards: name of the source, such as ``"model"``, and name of the
        coordinate of `values` along ``draw`` that tells its groups apart, such as ``"member"``.
    remainder : str
        Name of the source of what varies within the innermost groups.

    Returns
    -------
    xarray.Dataset
        `standard_deviation` of each ``source``, with `standard_deviation_std`, and
        `total_standard_deviation` (unit of `values`); `share` (1) of the variance; `mean`;
        `draws_used` and `draws_failed`. A source whose label takes one value only, or does not
        repeat, cannot be told: it is nan, not 0, and the total does not hold it.

    Raises
    ------
    ValueError
        Lists every fault: no ``draw`` dim, no units, labels that are not coordinates along
        ``draw``, a source named twice.

    References
    ----------
    Searle, Casella, McCulloch, Variance Components, Wiley (1992),
    https://doi.org/10.1002/9780470316856

    Examples
    --------
    >>> values = xr.DataArray(
    ...     [4.0, 4.2, 3.0, 3.2], dims="draw", attrs={"units": "V"},
    ...     coords={"member": ("draw", ["a", "a", "b", "b"])},
    ... )
    >>> result = budget(values, labels={"model": "member"})
    >>> result["standard_deviation"].round(3).values.tolist()
    [0.7, 0.141]
    """
    faults = []
    if "draw" not in values.dims:
        faults.append(f"the values have dims {tuple(values.dims)}, expected 'draw' among them")
    if not values.attrs.get("units"):
        faults.append("the values have no units; set the attribute")
    for source, label in labels.items():
        if label not in values.coords or values.coords[label].dims != ("draw",):
            faults.append(f"{source}: {label!r} is not a coordinate along draw")
    if remainder in labels:
        faults.append(f"{remainder!r} names both a label's source and the remainder")
    if faults:
        raise ValueError("Budget: " + "; ".join(faults) + ".")

    sources = [*labels, remainder]
    nested = _nested_groups([values.coords[label].values for label in labels.values()])
    variance, variance_error, used = xr.apply_ufunc(
        lambda draws: _variance_components(draws, nested),
        values,
        input_core_dims=[["draw"]],
        output_core_dims=[["source"], ["source"], []],
        vectorize=True,
    )
    deviation = np.sqrt(variance)
    total = variance.sum("source", min_count=1)
    units = values.attrs["units"]
    result = xr.Dataset(
        {
            "standard_deviation": deviation,
            "standard_deviation_std": (variance_error / (2 * deviation)).where(deviation > 0),
            "total_standard_deviation": np.sqrt(total),
            "share": (variance / total).where(total > 0),
            "mean": values.mean("draw"),
            "draws_used": used,
            "draws_failed": values.sizes["draw"] - used,
        },
        coords={"source": sources},
        attrs={"outcome": _sentence(variance, sources)},
    )
    for name, variable in result.data_vars.items():
        counts = name in ("share", "draws_used", "draws_failed")
        variable.attrs = {"units": "1" if counts else units}
    return result


def worth_lengthening(
    transport: xr.Dataset,
    *,
    temperature: float,
    quantity: str = "conductivity",
    factor: float = 2.0,
) -> xr.Dataset:
    r"""Say which condition to simulate longer for a better value at another temperature.

    Generalised least squares on the Arrhenius line of the diffusive conditions,

    .. math:: \ln y_i = \ln A - \beta_i E_a \pm s_i, \qquad
              s^2 = u^T (X^T W X)^{-1} u, \qquad W = \operatorname{diag}(1 / s_i^2), \qquad
              u = (1, -\beta),

    gives the error :math:`s` of :math:`\ln y` at `temperature`; it is computed again with
    :math:`s_i^2` divided by `factor` for one condition at a time, as a run longer by that factor
    would do. Draws of several members count by their scatter within a member: longer runs do
    nothing about the difference between potentials.

    Parameters
    ----------
    transport : xarray.Dataset
        A TRANSPORT with draws of `quantity`, dims ``condition`` and ``draw``.
    temperature : float
        Temperature (K) at which the value is wanted.
    quantity : str
        ``"conductivity"`` or another variable with ``_draw`` and these dims.
    factor : float
        How many times longer (1), above 1.

    Returns
    -------
    xarray.Dataset
        `relative_error` (1) at `temperature` now; for each ``condition`` its `temperature` (K), its
        own `relative_error_of_condition` (1) and `relative_error_if_longer` (1) at the target, nan
        where a condition is not diffusive; the attribute `advice`.

    Raises
    ------
    ValueError
        Lists every fault: no draws, fewer than two temperatures, a factor not above 1, a
        temperature that is not positive.

    Examples
    --------
    >>> noise = np.exp(0.1 * np.random.default_rng(0).standard_normal((3, 400)))
    >>> transport = xr.Dataset({
    ...     "temperature": ("condition", [500.0, 600.0, 700.0]),
    ...     "conductivity_draw": (("condition", "draw"), noise),
    ... })
    >>> worth_lengthening(transport, temperature=300.0).attrs["advice"]
    'Run 500 K longer: 2 times its length takes the relative error at 300 K from 40 to 32 %.'
    """
    faults = []
    if f"{quantity}_draw" not in transport:
        faults.append(f"the transport has no {quantity}_draw")
    elif set(transport[f"{quantity}_draw"].dims) != {"condition", "draw"}:
        faults.append(f"{quantity}_draw has dims other than condition and draw")
    if not (np.isfinite(temperature) and temperature > 0):
        faults.append(f"temperature is {temperature} K, but must be positive")
    if not (np.isfinite(factor) and factor > 1):
        faults.append(f"factor is {factor}, but must be above 1")
    if faults:
        raise ValueError("Worth lengthening: " + "; ".join(faults) + ".")
    draws = transport[f"{quantity}_draw"].transpose("condition", "draw").values
    heat = transport["temperature"].values
    usable = (np.where(np.isfinite(draws), draws, -1.0) > 0).all(axis=1)
    if len(np.unique(heat[usable])) < 2:
        raise ValueError(
            f"Worth lengthening: {len(np.unique(heat[usable]))} temperature is diffusive, but a "
            "line needs two; lengthen the hottest condition that is not."
        )
    member = transport["member"].values if "member" in transport else np.zeros(draws.shape[1])
    logarithms = np.log(draws[usable])
    groups = [logarithms[:, member == name] for name in np.unique(member)]
    own = np.sqrt(np.mean([group.var(axis=1, ddof=1) for group in groups], axis=0))

    def error_at_target(errors: np.ndarray) -> float:
        beta = temperature / heat[usable]  # in units of the target's own beta
        design = np.column_stack([np.ones_like(beta), -beta]) / errors[:, None]
        wanted = np.array([1.0, -1.0])
        return float(np.sqrt(wanted @ np.linalg.inv(design.T @ design) @ wanted))

    now = error_at_target(own)
    longer = np.full(len(heat), np.nan)
    of_condition = np.full(len(heat), np.nan)
    of_condition[usable] = own
    for place, condition in enumerate(np.flatnonzero(usable)):
        shorter = np.where(np.arange(len(own)) == place, own / np.sqrt(factor), own)
        longer[condition] = error_at_target(shorter)
    best = int(np.nanargmin(longer))
    return xr.Dataset(
        {
            "temperature": ("condition", heat, {"units": "K"}),
            "relative_error": ((), now, {"units": "1"}),
            "relative_error_of_condition": ("condition", of_condition, {"units": "1"}),
            "relative_error_if_longer": ("condition", longer, {"units": "1"}),
        },
        attrs={
            "advice": f"Run {heat[best]:g} K longer: {factor:g} times its length takes the "
            f"relative error at {temperature:g} K from {100 * now:.0f} to "
            f"{100 * longer[best]:.0f} %.",
        },
    )


def worth_lengthening_liquid(
    properties: xr.Dataset, laws: xr.Dataset, values: xr.DataArray, *, factor: float = 2.0
) -> xr.Dataset:
    r"""Say which condition of a liquid to simulate longer for a better final quantity.

    The quantity y of each draw, a voltage say, is linear in where the draw's Laws lie,

    .. math:: y \approx \bar y + h^T \eta, \qquad z = X (\hat\beta + A \eta), \qquad
              s = |h|, \qquad A A^T = (X^T C^{-1} X)^{-1},

    with what the Laws are linear in, z, at the measured conditions, the coefficients
    :math:`\hat\beta` of the forms of highest evidence and the covariance C of the conditions. h is
    found by least squares over the draws. The error s is computed again with C divided by `factor`
    for one condition at a time, as a run longer by that factor would do to all four properties.
    Draws of several members count within a member: longer runs do nothing about the difference
    between potentials.

    Parameters
    ----------
    properties : xarray.Dataset
        NEWMAN that the Laws were fitted on.
    laws : xarray.Dataset
        What `couplers.fits.fit_laws` made of it.
    values : xarray.DataArray
        Final quantity (its own unit, in `units`), dim ``draw``: one value for each draw of `laws`
        in their order, nan where it failed. A property at one point, as
        `couplers.fits.evaluate` gives it, will do.
    factor : float
        How many times longer (1), above 1.

    Returns
    -------
    xarray.Dataset
        `standard_deviation` (unit of `values`) from sampling now; for each ``condition`` its
        `salt_concentration` (mol m-3), `temperature` (K) and `standard_deviation_if_longer`;
        `explained` (1), the share of the variance of the draws that is linear in the Laws; the
        attribute `advice`.

    Raises
    ------
    ValueError
        Lists every fault: another number of draws than the Laws have, fewer than twice as many
        draws as coefficients, no units, a factor not above 1.
    """
    faults = []
    if values.dims != ("draw",) or values.sizes["draw"] != laws.sizes["draw"]:
        faults.append(
            f"the values have the shape {dict(values.sizes)}, expected one for each of the "
            f"{laws.sizes['draw']} draws of the laws"
        )
    if not values.attrs.get("units"):
        faults.append("the values have no units; set the attribute")
    if not (np.isfinite(factor) and factor > 1):
        faults.append(f"factor is {factor}, but must be above 1")
    whole, _ = weighed(properties)
    shapes = [forms[0] for forms in whole.shapes]
    beta, root = posterior(whole, shapes)
    used = np.isfinite(values.values)
    if not faults and used.sum() < 2 * len(beta):
        faults.append(
            f"{int(used.sum())} draws have a value, but the laws have {len(beta)} coefficients; "
            "give twice as many at least"
        )
    if faults:
        raise ValueError("Worth lengthening: " + "; ".join(faults) + ".")

    z = predictors(laws, whole.c, whole.T)[used]
    lower = np.linalg.cholesky(whole.covariance)
    basis = np.linalg.solve(lower, whole.design(shapes) @ root).reshape(-1, len(beta))
    away = np.linalg.solve(lower, z[..., None])[..., 0].reshape(len(z), -1)
    eta = away @ basis  # the columns of the basis are orthonormal
    y = values.values[used]
    member = laws["member"].values[used].astype(str)
    for name in np.unique(member):
        mine = member == name
        eta[mine] -= eta[mine].mean(0)
        y = np.where(mine, y - y[mine].mean(), y)
    h = np.linalg.lstsq(eta, y, rcond=None)[0]
    gradient = np.linalg.solve(root.T, h)

    def error(covariance: np.ndarray) -> float:
        other = posterior(replace(whole, covariance=covariance), shapes)[1]
        return float(np.linalg.norm(other.T @ gradient))

    longer = np.empty(len(whole.c))
    for condition in range(len(longer)):
        covariance = whole.covariance.copy()
        covariance[condition] /= factor
        longer[condition] = error(covariance)
    now, best = error(whole.covariance), int(np.argmin(longer))
    units = values.attrs["units"]
    said = "" if units == "1" else f" {units}"
    return xr.Dataset(
        {
            "temperature": ("condition", whole.T, {"units": "K"}),
            "salt_concentration": ("condition", whole.c, {"units": "mol m-3"}),
            "standard_deviation": ((), now, {"units": units}),
            "standard_deviation_if_longer": ("condition", longer, {"units": units}),
            "explained": ((), float(1 - np.var(y - eta @ h) / np.var(y)), {"units": "1"}),
        },
        attrs={
            "advice": f"Run {whole.c[best]:g} mol m-3 at {whole.T[best]:g} K longer: {factor:g} "
            f"times its length takes the error from {now:.3g} to {longer[best]:.3g}{said}."
        },
    )


def _nested_groups(labels: list[np.ndarray]) -> list[np.ndarray]:
    """Group number of each draw at each level: equal only if all labels so far are equal."""
    levels: list[np.ndarray] = []
    for label in labels:
        number = np.unique(label, return_inverse=True)[1]
        if levels:
            both = np.stack([levels[-1], number])
            number = np.unique(both, axis=1, return_inverse=True)[1].ravel()
        levels.append(number)
    return levels


def _variance_components(
    draws: np.ndarray, nested: list[np.ndarray]
) -> tuple[np.ndarray, np.ndarray, int]:
    """Variance of each level and of the remainder, its error, and the number of draws used."""
    kept = np.isfinite(draws)
    count = int(kept.sum())
    variance = np.full(len(nested) + 1, np.nan)
    error = variance.copy()
    if count < 2:
        return variance, error, count
    y = draws[kept] - draws[kept].mean()
    levels = [np.zeros(count, dtype=int)]
    levels += [np.unique(level[kept], return_inverse=True)[1] for level in nested]
    levels.append(np.arange(count))

    sizes = [np.bincount(level) for level in levels]
    squares = [np.bincount(level, y) ** 2 / size for level, size in zip(levels, sizes, strict=True)]
    sums = np.diff([square.sum() for square in squares])
    freedom = np.diff([len(size) for size in sizes])
    weight = np.array(
        [
            [
                (sizes[inner][levels[inner]] / sizes[outer][levels[outer]]).sum()
                if inner > outer
                else count
                for inner in range(1, len(levels))
            ]
            for outer in range(len(levels))
        ]
    )
    known = np.flatnonzero(freedom)
    matrix = np.diff(weight, axis=0)[np.ix_(known, known)]
    variance[known] = np.maximum(np.linalg.solve(matrix, sums[known]), 0.0)
    spread = np.sqrt(2 / freedom[known]) * sums[known]
    error[known] = np.linalg.norm(np.linalg.inv(matrix) * spread, axis=1)
    return variance, error, count


def _sentence(variance: xr.DataArray, sources: list[str]) -> str:
    unknown = [
        source
        for index, source in enumerate(sources)
        if bool(variance.isel(source=index).isnull().any())
    ]
    if not unknown:
        return "every source could be told apart"
    return f"{', '.join(unknown)} could not be told from these draws and is not in the total"
