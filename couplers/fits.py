r"""Newman's four properties at scattered conditions → Laws with a joint posterior."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import xarray as xr
from scipy.constants import gas_constant

from continuum.inputs import FARADAY
from continuum.laws import FORMS, HEAT_POWERS, SALT_POWERS, Law
from couplers.contract import check
from couplers.evidence import Tie, Weighed, best, sample, weigh
from couplers.newman import NEWMAN

# property of NEWMAN: (field of Electrolyte, form of its Law)
LAWS = {
    "conductivity": ("conductivity", "liquid conductivity"),
    "salt_diffusivity": ("diffusivity", "liquid diffusivity"),
    "transference_number": ("transference_number", "liquid transference number"),
    "thermodynamic_factor": ("thermodynamic_factor", "liquid thermodynamic factor"),
}
SCREENING = 0.3  # (mol/L)^(1/2): 1/(B a) of Debye and Hückel in a carbonate, a = 0.5 nm
SMALLEST_ERROR = 1e-9
DILUTE = ("conductivity", "salt_diffusivity", "transference_number")
LEAST_NUMBER = 0.01  # transference number below which its logarithm says too little
LINEARISATIONS = 4
VANISHINGLY = 1e-9  # mol m-3, as good as no salt


def fit_laws(
    properties: xr.Dataset,
    *,
    dilute_limit: float | None = None,
    draws: int = 400,
    seed: int = 0,
) -> xr.Dataset:
    r"""Fit the four Laws of a liquid jointly, their forms averaged by evidence.

    .. math::
        \ln \frac{\kappa}{x}, \quad \ln D, \quad \ln(1 - t_+), \quad
        \frac{\sqrt x + \xi}{\sqrt x} \ln \chi \;=\;
        \sum_{kj} a_{kj}\, x^{k/2} \tau^j + \varepsilon, \qquad
        \varepsilon \sim \mathcal{N}(0, B\, C_i B)

    with :math:`x = c` / (1000 mol m-3) and :math:`\tau` as in `continuum.laws.Law`, so that
    every law is linear in its coefficients, and positivity and the limits at :math:`c \to 0` hold
    whatever they are. :math:`C_i` is the covariance of the four at condition i: that of the draws
    (within one member of a committee), or of ``_std`` where there are none.

    A form is a staircase of powers :math:`k \le K_j`, :math:`K_0 \ge K_1 \ge \dots`, Arrhenius or,
    with one power of :math:`\tau`, Vogel-Fulcher-Tammann. Its evidence is Laplace's with the prior
    of unit information,

    .. math:: \ln Z = -\tfrac12 \chi^2 - \tfrac12 p \ln n,

    for p coefficients and n conditions. Forms are drawn with their evidence as weight, and
    coefficients from the joint posterior of the four laws of these forms (generalised least
    squares, flat prior), so that the draws hold the uncertainty of sampling and of the fit. Each
    choice of forms is given four draws, one after the other, by which
    `couplers.uncertainty.budget` tells the two apart.

    Where even the best form misses by more than its stated errors explain (:math:`\chi^2` beyond
    99 %), the errors of that property are multiplied by
    :math:`b = \sqrt{\chi^2 / (n - p)}` (Birge), the forms are weighed again, and its draws get
    Student's tails; the attribute ``misfit`` says so. Where ``_std`` is nan the errors are taken
    from the scatter in the same way.

    Parameters
    ----------
    properties : xarray.Dataset
        NEWMAN, as `couplers.newman.newman` gives it; a property may be absent.
    dilute_limit : float, optional
        Relative error (1) to which D at :math:`c \to 0` is to be that of Nernst and Hartley,
        :math:`2 t_+ (1 - t_+) R T \Lambda / F^2` of the other two laws, at every temperature
        measured where :math:`t_+ > 0` there. If not given, the limit is free, and only
        ``nernst_hartley_ratio`` looks at it: points far from the dilute salt know little of it.
    draws : int
        Draws (1) in all, shared evenly among the members of a committee.
    seed : int
        Seed of the draws.

    Returns
    -------
    xarray.Dataset
        ``value`` of each ``coefficient`` for the forms of highest evidence, with ``value_std``,
        their ``covariance`` (coefficient, partner) and ``value_draw``, whose coordinates
        ``member`` and ``form`` say whose each draw is and which forms it has. Temperatures among
        the coefficients are in K, all else in 1. With a committee ``value`` and ``covariance``
        are those of the members' mean, and the draws hold the difference between them.
        ``nernst_hartley_ratio`` (1) at the reference temperature is the limit of D at
        :math:`c \to 0` over :math:`2 t_+ (1 - t_+) R T \Lambda / F^2` of the other two laws: 1
        if the three agree about the dilute salt (nan if :math:`t_+ < 0` there). Attributes: the
        window, ``form_<name>`` with its chance, ``chi_squared_<name>``, ``freedom_<name>``,
        ``inflation_<name>`` and the sentence ``misfit``.

    Raises
    ------
    ContractError
        Lists every breach of NEWMAN.
    ValueError
        Lists every other fault: no property or no condition, fewer than two draws, a
        transference number of 1 or more, errors that are not known with too few conditions.

    References
    ----------
    Kass, Wasserman, J. Am. Stat. Assoc. 90, 928 (1995),
    https://doi.org/10.1080/01621459.1995.10476592;
    Birge, Phys. Rev. 40, 207 (1932), https://doi.org/10.1103/PhysRev.40.207
    """
    properties = check(properties, NEWMAN)
    names = [name for name in LAWS if name in properties]
    faults = []
    if not names:
        faults.append(f"there is none of {', '.join(LAWS)}")
    if not properties.sizes["condition"]:
        faults.append("there is no condition")
    if draws < 2:
        faults.append(f"draws is {draws}, but must be at least 2")
    if "transference_number" in names and (properties["transference_number"] >= 1).any():
        faults.append("transference_number is 1 or more, but a salt's is below 1")
    if dilute_limit is not None:
        if not (np.isfinite(dilute_limit) and dilute_limit > 0):
            faults.append(f"dilute_limit is {dilute_limit}, but must be positive")
        lacking = [name for name in DILUTE if name not in names]
        if lacking:
            faults.append(f"dilute_limit needs {', '.join(lacking)} as well")
    if faults:
        raise ValueError("Fit of the laws: " + "; ".join(faults) + ".")

    c, T = properties["salt_concentration"].values, properties["temperature"].values
    rng = np.random.default_rng(seed)
    whole, fits = weighed(properties)
    if dilute_limit is not None:
        whole = _tied(whole, names, dilute_limit)
        fits = {name: _tied(fit, names, dilute_limit) for name, fit in fits.items()}
    shares = [len(part) for part in np.array_split(np.arange(draws), len(fits))]
    drawn = [sample(fit, share, rng) for fit, share in zip(fits.values(), shares, strict=True)]
    reference = whole.reference
    value, directions = best(whole)
    directions = directions.reshape(len(directions), -1)
    out = xr.Dataset(
        {
            "value": ("coefficient", _embedded(names, reference, value)),
            "value_draw": (
                ("coefficient", "draw"),
                _embedded(names, reference, np.concatenate([series for series, _ in drawn])).T,
            ),
        },
        coords={
            "coefficient": [f"{name}: {one}" for name in names for one in FORMS[LAWS[name][1]][0]],
            "law": ("coefficient", [name for name in names for _ in FORMS[LAWS[name][1]][0]]),
            "member": ("draw", np.repeat(list(fits), shares)),
            "form": ("draw", ["; ".join(form) for _, forms in drawn for form in forms]),
        },
        attrs={
            "concentration_low": float(c.min()),
            "concentration_high": float(c.max()),
            "temperature_low": float(T.min()),
            "temperature_high": float(T.max()),
            "conditions": len(c),
            **_said(names, whole, fits),
        },
    )
    error = _embedded(names, 0.0, directions.reshape(-1, *value.shape), screening=0.0)
    deviation = np.sqrt(np.square(error).sum(0))
    out["value_std"] = ("coefficient", np.where(deviation > 0, deviation, np.nan))
    out["covariance"] = (("coefficient", "partner"), error.T @ error)
    for variable in out.data_vars.values():
        variable.attrs = {"units": "1"}
    return _with_dilute_limit(out, reference)


def weighed(properties: xr.Dataset) -> tuple[Weighed, dict[str, Weighed]]:
    """Weigh the forms of the Laws: for the mean of a committee, and for each of its members.

    Parameters
    ----------
    properties : xarray.Dataset
        NEWMAN, as for `fit_laws`.
    """
    names = [name for name in LAWS if name in properties]
    c, T = properties["salt_concentration"].values, properties["temperature"].values
    reference = float(1.0 / (1.0 / T).mean())
    groups = _members(properties)
    seen = [_observations(properties, names, pick) for pick in groups.values()]
    mean, covariance = (np.mean(each, axis=0) for each in zip(*seen, strict=True))
    whole = weigh(c, T, reference, mean, covariance)
    if len(groups) == 1:
        return whole, dict.fromkeys(groups, whole)
    fits = [weigh(c, T, reference, *each) for each in seen]
    return whole, dict(zip(groups, fits, strict=True))


def predictors(laws: xr.Dataset, concentration: np.ndarray, temperature: np.ndarray) -> np.ndarray:
    """What the Laws are linear in (1), for every draw at points in (c, T): (draw, condition, law).

    Parameters
    ----------
    laws : xarray.Dataset
        What `fit_laws` returned.
    concentration, temperature : numpy.ndarray
        Salt concentrations (mol m-3) and temperatures (K), (condition,).
    """
    found = evaluate(laws, concentration, temperature)
    c = found["salt_concentration"].values[:, None]
    rows = [_transformed(name, found[f"{name}_draw"].values, c) for name in LAWS if name in found]
    return np.stack(rows, axis=-1).transpose(1, 0, 2)


def laws_of(laws: xr.Dataset, *, draw: int | None = None) -> dict[str, Law]:
    """Give the Laws that `fit_laws` found, by field of `continuum.inputs.Electrolyte`.

    Parameters
    ----------
    laws : xarray.Dataset
        What `fit_laws` returned.
    draw : int, optional
        Posterior draw, the same in every law; those of highest evidence if not given.

    Returns
    -------
    dict
        Law of each property that was fitted.
    """
    values = laws["value"].values if draw is None else laws["value_draw"].values[:, draw]
    return _laws(laws, values)


def evaluate(laws: xr.Dataset, concentration: np.ndarray, temperature: np.ndarray) -> xr.Dataset:
    """Evaluate fitted Laws at points in (c, T), every draw of them.

    Parameters
    ----------
    laws : xarray.Dataset
        What `fit_laws` returned.
    concentration : numpy.ndarray
        Salt concentrations (mol m-3), (condition,).
    temperature : numpy.ndarray
        Temperatures (K), (condition,).

    Returns
    -------
    xarray.Dataset
        NEWMAN: each property of the form of highest evidence, with ``_std`` and ``_draw``.
    """
    c, T = np.broadcast_arrays(np.asarray(concentration, float), np.asarray(temperature, float))
    best = _laws(laws, laws["value"].values)
    wide = _laws(laws, laws["value_draw"].values[:, None])
    out = xr.Dataset(
        {
            "temperature": ("condition", T, {"units": "K"}),
            "salt_concentration": ("condition", c, {"units": "mol m-3"}),
        },
        coords={name: laws[name] for name in ("member", "form")},
        attrs={word: allowed[0] for word, allowed in NEWMAN["attrs"].items()},
    )
    for name, (field, _) in LAWS.items():
        if field in best:
            units = {"units": best[field].units}
            drawn = wide[field](c[:, None], T[:, None])
            out[name] = ("condition", best[field](c, T), units)
            out[f"{name}_std"] = ("condition", drawn.std(1), units)
            out[f"{name}_draw"] = (("condition", "draw"), drawn, units)
    return out


def held_out(properties: xr.Dataset, condition: int, *, seed: int = 0) -> xr.Dataset:
    r"""Predict one condition from all the others, and say whether it lies where it should.

    .. math:: z = \frac{\ln y - \ln y_\text{predicted}}
                       {\sqrt{s^2 + s_\text{predicted}^2}}

    (:math:`1 - t_+` instead of :math:`t_+`), with the error of the law and of the point itself.

    Parameters
    ----------
    properties : xarray.Dataset
        NEWMAN, two conditions at least.
    condition : int
        Place of the condition to leave out.
    seed : int
        Seed of the draws.

    Returns
    -------
    xarray.Dataset
        ``deviation`` z (1) of each ``property``, beyond 2 for one point in twenty.
    """
    others = np.delete(np.arange(properties.sizes["condition"]), condition)
    laws = fit_laws(properties.isel(condition=others), seed=seed)
    point = properties.isel(condition=[condition])
    c, T = point["salt_concentration"].values, point["temperature"].values
    predicted = evaluate(laws, c, T)
    names = [name for name in LAWS if name in properties]
    data, covariance = _observations(point, names, np.arange(properties.sizes.get("draw", 0)))
    deviation = []
    for index, name in enumerate(names):
        drawn = _transformed(name, predicted[f"{name}_draw"].values, c[:, None])
        error = np.hypot(drawn.std(), np.sqrt(covariance[0, index, index]))
        deviation.append(float((data[index, 0] - drawn.mean()) / error))
    return xr.Dataset(
        {"deviation": ("property", deviation, {"units": "1"})},
        coords={
            "property": names,
            "salt_concentration": ((), c[0], {"units": "mol m-3"}),
            "temperature": ((), T[0], {"units": "K"}),
        },
    )


def _transformed(name: str, value: np.ndarray, c: np.ndarray) -> np.ndarray:
    """What the law is linear in."""
    root = np.sqrt(c / 1000)
    if name == "conductivity":
        return np.log(value) - 2 * np.log(root)
    if name == "transference_number":
        return np.log(1 - value)
    if name == "thermodynamic_factor":
        return np.log(value) * (root + SCREENING) / root
    return np.log(value)


def _slope(name: str, value: np.ndarray, c: np.ndarray) -> np.ndarray:
    """Derivative of what the law is linear in with respect to the property itself."""
    if name == "transference_number":
        return -1.0 / (1 - value)
    root = np.sqrt(c / 1000)
    scale = (root + SCREENING) / root if name == "thermodynamic_factor" else 1.0
    return scale / value


def _members(properties: xr.Dataset) -> dict[str, np.ndarray]:
    """Draws of each member of the committee; one member where there are no draws."""
    count = properties.sizes.get("draw", 0)
    if "member" not in properties.coords:
        return {"all": np.arange(count)}
    member = properties["member"].values.astype(str)
    return {name: np.flatnonzero(member == name) for name in dict.fromkeys(member.tolist())}


def _observations(
    properties: xr.Dataset, names: list[str], pick: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """What the laws are linear in, (property, condition), and covariance, (condition, p, p).

    Where the error of a property is not known its variance is nan.
    """
    c = properties["salt_concentration"].values
    data = np.empty((len(names), len(c)))
    covariance = np.zeros((len(c), len(names), len(names)))
    away = np.zeros((len(names), len(c), len(pick)))
    for index, name in enumerate(names):
        value, std = properties[name].values, properties[f"{name}_std"].values
        data[index] = _transformed(name, value, c)
        slope = _slope(name, value, c)
        covariance[:, index, index] = np.maximum(np.abs(slope) * std, SMALLEST_ERROR) ** 2
        if f"{name}_draw" in properties and len(pick) > len(names) + 1:
            drawn = properties[f"{name}_draw"].transpose("condition", "draw").values[:, pick]
            if name == "transference_number" and (drawn >= 1).any():
                # a broad posterior may reach beyond 1, where there is no logarithm
                drawn = data[index][:, None] + slope[:, None] * (drawn - value[:, None])
            else:
                drawn = _transformed(name, drawn, c[:, None])
            data[index] = drawn.mean(1)
            away[index] = drawn - data[index][:, None]
    own = np.einsum("pcd,qcd->cpq", away, away) / max(len(pick) - 1, 1)
    varied = np.einsum("cpp->cp", own) > SMALLEST_ERROR**2
    return data, np.where(varied[:, :, None] & varied[:, None, :], own, covariance)


def _embedded(
    names: list[str], reference: float, series: np.ndarray, *, screening: float = SCREENING
) -> np.ndarray:
    """Coefficients of all Laws, one after the other, of their series (..., property, 1 + term)."""
    parts = []
    for index, name in enumerate(names):
        one = series[..., index, :]
        ahead = [screening, reference] if name == "thermodynamic_factor" else [reference]
        parts += [np.broadcast_to(ahead, (*one.shape[:-1], len(ahead))), one]
    return np.concatenate(parts, axis=-1)


def _laws(laws: xr.Dataset, values: np.ndarray) -> dict[str, Law]:
    """Laws of coefficients (coefficient, ...)."""
    windows = [
        (float(laws.attrs[f"{label}_low"]), float(laws.attrs[f"{label}_high"]))
        for label in ("concentration", "temperature")
    ]
    owner = laws["law"].values.astype(str)
    found = {}
    for name, (field, form) in LAWS.items():
        own = values[owner == name]
        if len(own):
            coefficients = tuple(own.tolist()) if own.ndim == 1 else tuple(own)
            units = NEWMAN["variables"][name]["units"]
            found[field] = Law(form, coefficients, units, *windows)
    return found


def _said(names: list[str], whole: Weighed, fits: dict[str, Weighed]) -> dict[str, str | float]:
    """Attributes about the forms and about errors that had to be widened."""
    attrs: dict[str, str | float] = {}
    for index, name in enumerate(names):
        forms, chances = whole.shapes[index], whole.weights[index]
        attrs[f"form_{name}"] = f"{forms[0].label}: {chances[0]:.2f} of {len(forms)} forms"
        attrs[f"chi_squared_{name}"] = float(whole.chi_squared[index])
        attrs[f"freedom_{name}"] = int(whole.freedom[index])
        attrs[f"inflation_{name}"] = float(whole.inflation[index])
    said = []
    for member, fit in fits.items():
        for index, name in enumerate(names):
            whose = f"{name} of {member}" if len(fits) > 1 else name
            if np.isnan(fit.inflation[index]):
                said.append(f"the errors of {whose} are not known and taken from its scatter")
            elif fit.inflation[index] > 1:
                said.append(
                    f"the errors of {whose} are multiplied by {fit.inflation[index]:.2f}, for no "
                    "form meets its points within them"
                )
            elif not fit.freedom[index]:
                said.append(f"{whose} has as many terms as conditions, so its misfit is unknown")
    attrs["misfit"] = "; ".join(said) or "every law meets its points within the stated errors"
    return attrs


def _tied(fit: Weighed, names: list[str], error: float) -> Weighed:
    r"""Tie the laws at c → 0: ln D = ln(2 R T / F^2) + ln(kappa / c) + ln t_+ + ln(1 - t_+).

    With u = ln(1 - t_+) the last two are u + ln(1 - e^u), taken linear about the last solution.
    """
    place = [names.index(name) for name in DILUTE]
    for _ in range(LINEARISATIONS):
        series = best(fit)[0][place[2]]
        ties = []
        for T in np.unique(fit.T):
            tau = (fit.reference - series[0]) / (T - series[0]) - 1
            u = float(series[1::SALT_POWERS] @ tau ** np.arange(HEAT_POWERS))
            if u < np.log(1 - LEAST_NUMBER):
                slope = (1 - 2 * np.exp(u)) / (1 - np.exp(u))
                weights = np.zeros(len(names))
                weights[place] = [-1.0, 1.0, -slope]
                dilute = np.log(2 * gas_constant * T / (1000 * FARADAY**2))
                value = dilute + u + np.log(1 - np.exp(u)) - slope * u
                ties.append(Tie(float(T), tuple(weights.tolist()), float(value), error))
        fit = replace(fit, ties=tuple(ties))
    return fit


def _with_dilute_limit(laws: xr.Dataset, reference: float) -> xr.Dataset:
    """Ratio of the salt diffusivity at c → 0 to that of Nernst and Hartley."""
    best, wide = (_laws(laws, laws[name].values) for name in ("value", "value_draw"))
    if not {"conductivity", "diffusivity", "transference_number"} <= set(best):
        return laws

    def ratio(found: dict[str, Law]) -> np.ndarray:
        c = VANISHINGLY
        t = found["transference_number"](c, reference)
        ions = gas_constant * reference / FARADAY**2 * found["conductivity"](c, reference) / c
        with np.errstate(invalid="ignore", divide="ignore"):
            limit = np.where(t > 0, 2 * t * (1 - t) * ions, np.nan)
        return np.asarray(found["diffusivity"](c, reference) / limit)

    drawn = ratio(wide)
    finite = drawn[np.isfinite(drawn)]
    # its tails reach far where the data stop well short of the dilute salt
    spread = np.diff(np.percentile(finite, [15.865, 84.135])) / 2 if len(finite) > 1 else [np.nan]
    laws["nernst_hartley_ratio"] = ((), float(ratio(best)), {"units": "1"})
    laws["nernst_hartley_ratio_std"] = ((), float(spread[0]), {"units": "1"})
    laws["nernst_hartley_ratio_draw"] = ("draw", drawn, {"units": "1"})
    return laws
