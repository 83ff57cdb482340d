"""Closed-form property laws that NumPy, PyBaMM and UFL evaluate alike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.constants import gas_constant


def _constant(coefficients: tuple[Any, ...], c: Any, T: Any, exp: Callable[[Any], Any]) -> Any:
    return coefficients[0]


def _arrhenius(coefficients: tuple[Any, ...], c: Any, T: Any, exp: Callable[[Any], Any]) -> Any:
    value, energy, reference = coefficients
    return value * exp(-energy / gas_constant * (1 / T - 1 / reference))


def _arrhenius_over_temperature(
    coefficients: tuple[Any, ...], c: Any, T: Any, exp: Callable[[Any], Any]
) -> Any:
    value, energy, reference = coefficients
    return value * (reference / T) * exp(-energy / gas_constant * (1 / T - 1 / reference))


def _cubic(coefficients: tuple[Any, ...], c: Any, T: Any, exp: Callable[[Any], Any]) -> Any:
    p1, p2, p3, p4, p5, p6, p7, p8, p9 = coefficients
    x = c / 1000
    return (
        p1
        + p2 * x
        + p3 * T
        + p4 * x**2
        + p5 * x * T
        + p6 * T**2
        + p7 * x**3
        + p8 * x**2 * T
        + p9 * x * T**2
    )


def _landesfeind_conductivity(
    coefficients: tuple[Any, ...], c: Any, T: Any, exp: Callable[[Any], Any]
) -> Any:
    p1, p2, p3, p4, p5, p6 = coefficients
    x, thermal = c / 1000, exp(1000 / T)
    numerator = p1 * (1 + T - p2) * x * (1 + p3 * x**0.5 + p4 * (1 + p5 * thermal) * x)
    return numerator / (1 + p6 * thermal * x**4)


def _landesfeind_diffusivity(
    coefficients: tuple[Any, ...], c: Any, T: Any, exp: Callable[[Any], Any]
) -> Any:
    p1, p2, p3, p4 = coefficients
    x = c / 1000
    return p1 * exp(p2 * x + p3 / T + p4 * x / T)


# powers of sqrt(c) and of the reduced temperature that the forms of a liquid hold
SALT_POWERS, HEAT_POWERS = 6, 4
SERIES = tuple(f"a{k}{j}" for j in range(HEAT_POWERS) for k in range(SALT_POWERS))


def _series(coefficients: tuple[Any, ...], root: Any, T: Any) -> Any:
    """Sum of a_kj root^k theta^j, by Horner's rule in both."""
    reference, vanishing, *terms = coefficients
    theta = (reference - vanishing) / (T - vanishing) - 1
    total: Any = None
    for j in reversed(range(HEAT_POWERS)):
        row: Any = None
        for a in reversed(terms[j * SALT_POWERS : (j + 1) * SALT_POWERS]):
            row = a if row is None else row * root + a
        total = row if total is None else total * theta + row
    return total


def _liquid_conductivity(
    coefficients: tuple[Any, ...], c: Any, T: Any, exp: Callable[[Any], Any]
) -> Any:
    x = c / 1000
    return x * exp(_series(coefficients, x**0.5, T))


def _liquid_diffusivity(
    coefficients: tuple[Any, ...], c: Any, T: Any, exp: Callable[[Any], Any]
) -> Any:
    return exp(_series(coefficients, (c / 1000) ** 0.5, T))


def _liquid_transference_number(
    coefficients: tuple[Any, ...], c: Any, T: Any, exp: Callable[[Any], Any]
) -> Any:
    return 1 - exp(_series(coefficients, (c / 1000) ** 0.5, T))


def _liquid_thermodynamic_factor(
    coefficients: tuple[Any, ...], c: Any, T: Any, exp: Callable[[Any], Any]
) -> Any:
    screening, *rest = coefficients
    root = (c / 1000) ** 0.5
    return exp(_series(tuple(rest), root, T) * root / (root + screening))


# form: (names of the coefficients, function)
FORMS: dict[str, tuple[tuple[str, ...], Callable[..., Any]]] = {
    "constant": (("value",), _constant),
    "arrhenius": (("value", "energy", "reference_temperature"), _arrhenius),
    "arrhenius over temperature": (
        ("value", "energy", "reference_temperature"),
        _arrhenius_over_temperature,
    ),
    "cubic": (("p1", "p2", "p3", "p4", "p5", "p6", "p7", "p8", "p9"), _cubic),
    "landesfeind conductivity": (
        ("p1", "p2", "p3", "p4", "p5", "p6"),
        _landesfeind_conductivity,
    ),
    "landesfeind diffusivity": (("p1", "p2", "p3", "p4"), _landesfeind_diffusivity),
    "liquid conductivity": (
        ("reference_temperature", "vanishing_temperature", *SERIES),
        _liquid_conductivity,
    ),
    "liquid diffusivity": (
        ("reference_temperature", "vanishing_temperature", *SERIES),
        _liquid_diffusivity,
    ),
    "liquid transference number": (
        ("reference_temperature", "vanishing_temperature", *SERIES),
        _liquid_transference_number,
    ),
    "liquid thermodynamic factor": (
        ("screening", "reference_temperature", "vanishing_temperature", *SERIES),
        _liquid_thermodynamic_factor,
    ),
}


@dataclass(frozen=True)
class Law:
    r"""A property :math:`y(c, T)` in closed form, with the window in which it was fitted.

    ============================ =====================================================
    form                         :math:`y(c, T)`
    ============================ =====================================================
    constant                     :math:`y_0`
    arrhenius                    :math:`y_0 \exp[-E/R\,(1/T - 1/T_0)]`
    arrhenius over temperature   :math:`y_0 (T_0/T) \exp[-E/R\,(1/T - 1/T_0)]`
    cubic                        :math:`p_1 + p_2 x + p_3 T + p_4 x^2 + p_5 x T + p_6 T^2
                                 + p_7 x^3 + p_8 x^2 T + p_9 x T^2`
    landesfeind conductivity     :math:`p_1 (1 + T - p_2)\, x\,
                                 [1 + p_3 \sqrt x + p_4 (1 + p_5 \theta)\, x]\,
                                 / (1 + p_6 \theta x^4)`
    landesfeind diffusivity      :math:`p_1 \exp(p_2 x + p_3/T + p_4 x/T)`
    liquid conductivity          :math:`x\, e^{S}`
    liquid diffusivity           :math:`e^{S}`
    liquid transference number   :math:`1 - e^{S}`
    liquid thermodynamic factor  :math:`\exp[S \sqrt x / (\sqrt x + \xi)]`
    ============================ =====================================================

    with :math:`x = c` / (1000 mol m-3), :math:`\theta = \exp(1000\,\mathrm{K}/T)` and :math:`T`
    in K; the two forms named after Landesfeind and the use of the cubic one are those of
    Landesfeind and Gasteiger. The four liquid forms share the series

    .. math::
        S(c, T) = \sum_{k=0}^{5} \sum_{j=0}^{3} a_{kj}\, x^{k/2} \tau^j, \qquad
        \tau = \frac{T_r - T_0}{T - T_0} - 1,

    Arrhenius at :math:`T_0 = 0`, Vogel, Fulcher and Tammann above. Whatever their coefficients,
    conductivity, diffusivity and thermodynamic factor are positive, the transference number is
    below 1 and free to be negative, and as :math:`c \to 0` the conductivity vanishes as c, the
    diffusivity stays finite and the thermodynamic factor goes to 1, all with the
    :math:`\sqrt c` of Debye, Hückel and Onsager.

    Parameters
    ----------
    form : str
        One of the forms above.
    coefficients : tuple
        Coefficients in the form's order: :math:`y_0` (in `units`), :math:`E` (J mol-1),
        :math:`T_0` (K); :math:`p_1, p_2, \dots` so that :math:`y` has `units`; for a liquid
        :math:`\xi` (1, thermodynamic factor only), :math:`T_r` and :math:`T_0` (K) and
        :math:`a_{00}, a_{10}, \dots, a_{53}` (1, logarithms of SI). Numbers, or symbols of the
        library that evaluates the law.
    units : str
        Units of :math:`y`, SI.
    concentration_window : tuple of float
        Lowest and highest concentration (mol m-3) that the law was fitted on.
    temperature_window : tuple of float
        Lowest and highest temperature (K) that the law may be used at.

    Raises
    ------
    ValueError
        If the form is unknown, the number of coefficients is wrong, or a window is empty.

    References
    ----------
    Landesfeind, Gasteiger, J. Electrochem. Soc. 166, A3079 (2019),
    https://doi.org/10.1149/2.0571912jes

    Examples
    --------
    >>> law = Law("arrhenius", (2e-9, 30e3, 300.0), "m2 s-1")
    >>> float(law(1000.0, 300.0))
    2e-09
    >>> import pybamm
    >>> bool(law(1000.0, pybamm.Scalar(350.0), exp=pybamm.exp).evaluate() > 2e-9)
    True
    """

    form: str
    coefficients: tuple[Any, ...]
    units: str
    concentration_window: tuple[float, float] = (0.0, np.inf)
    temperature_window: tuple[float, float] = (0.0, np.inf)

    def __post_init__(self) -> None:
        if self.form not in FORMS:
            raise ValueError(f"Law form {self.form!r} is unknown; use one of {sorted(FORMS)}.")
        names = FORMS[self.form][0]
        if len(self.coefficients) != len(names):
            raise ValueError(
                f"Law form {self.form!r} takes {len(names)} coefficients ({', '.join(names)}), "
                f"but {len(self.coefficients)} were given."
            )
        for label, unit, (low, high) in (
            ("concentration", "mol m-3", self.concentration_window),
            ("temperature", "K", self.temperature_window),
        ):
            if not low <= high:
                raise ValueError(
                    f"The {label} window of a Law runs from {low} to {high} {unit}; "
                    "give the lower bound first."
                )

    def __call__(self, c: Any, T: Any, exp: Callable[[Any], Any] = np.exp) -> Any:
        """Evaluate at concentration `c` (mol m-3) and temperature `T` (K).

        `exp` is the exponential of the library whose symbols are passed in.
        """
        return FORMS[self.form][1](self.coefficients, c, T, exp)

    def outside(self, c: float, T: float) -> str | None:
        """Say which window (c, T) leaves, or None if it is inside both."""
        for label, unit, value, (low, high) in (
            ("concentration", "mol m-3", c, self.concentration_window),
            ("temperature", "K", T, self.temperature_window),
        ):
            if not low <= value <= high:
                return (
                    f"{label} {value:g} {unit} lies outside the law's window "
                    f"{low:g} to {high:g} {unit}"
                )
        return None
