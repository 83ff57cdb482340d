r"""Linear laws of concentration and temperature: which terms the data support, and how surely."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise, product

import numpy as np
from scipy.linalg import solve_triangular
from scipy.stats import chi2

from continuum.laws import HEAT_POWERS, SALT_POWERS

VANISHING = np.linspace(0.1, 0.95, 52)  # of the lowest temperature, tried against Arrhenius
SURE = 0.99  # chance up to which a misfit is taken for the stated errors' own
SHORTLIST = 8.0  # ln of the evidence below the best beyond which a form is dropped
SMALLEST_PIVOT = 1e-9
TOGETHER = 4  # draws of one choice of forms, so that their scatter tells sampling from forms
SPARE = 4  # one condition in so many is left to contradict the stated errors


@dataclass(frozen=True)
class Shape:
    """Which terms a law has.

    Parameters
    ----------
    powers : tuple of int
        Highest power of sqrt(c) that comes with each power of the reduced temperature.
    vanishing : float
        Vanishing temperature (K); 0 for Arrhenius.
    """

    powers: tuple[int, ...]
    vanishing: float = 0.0

    @property
    def terms(self) -> int:
        """Number of coefficients."""
        return sum(power + 1 for power in self.powers)

    @property
    def label(self) -> str:
        """Short name, such as ``4,1`` or ``4,1 over T - 180 K``."""
        over = f" over T - {self.vanishing:.0f} K" if self.vanishing else ""
        return ",".join(map(str, self.powers)) + over

    @property
    def places(self) -> np.ndarray:
        """Where its coefficients stand in the series of a Law."""
        return np.array(
            [
                j * SALT_POWERS + k
                for j, highest in enumerate(self.powers)
                for k in range(highest + 1)
            ]
        )


@dataclass(frozen=True)
class Tie:
    """A linear relation of the laws where there is no salt.

    Parameters
    ----------
    T : float
        Temperature (K).
    weights : tuple of float
        Weight (1) of what each law is linear in.
    value, error : float
        What the weighted sum is to be (1), and how strictly.
    """

    T: float
    weights: tuple[float, ...]
    value: float
    error: float


@dataclass(frozen=True)
class Weighed:
    """What several properties were measured to be, and the forms that explain each.

    Parameters
    ----------
    c, T : numpy.ndarray
        Concentration (mol m-3) and temperature (K) of each condition.
    reference : float
        Reference temperature (K).
    data : numpy.ndarray
        What the laws are linear in (1), (property, condition).
    covariance : numpy.ndarray
        Its covariance, widened where no form meets the data, (condition, property, property).
    shapes, weights : tuple
        Forms of each property, best first, and their posterior chances.
    chi_squared, freedom, inflation : numpy.ndarray
        Misfit of the best form against the stated errors, its degrees of freedom, and the factor
        by which the errors were multiplied; nan where no errors were stated.
    ties : tuple of Tie
        What the laws are to keep to between them.
    """

    c: np.ndarray
    T: np.ndarray
    reference: float
    data: np.ndarray
    covariance: np.ndarray
    shapes: tuple[tuple[Shape, ...], ...]
    weights: tuple[np.ndarray, ...]
    chi_squared: np.ndarray
    freedom: np.ndarray
    inflation: np.ndarray
    ties: tuple[Tie, ...] = ()

    def design(self, shapes: Sequence[Shape]) -> np.ndarray:
        """Terms of all properties in these forms, (condition, property, term)."""
        blocks = [design(shape, self.c, self.T, self.reference) for shape in shapes]
        joint = np.zeros((len(self.c), len(blocks), sum(shape.terms for shape in shapes)))
        start = 0
        for index, block in enumerate(blocks):
            joint[:, index, start : start + block.shape[1]] = block
            start += block.shape[1]
        return joint

    def tied(self, shapes: Sequence[Shape]) -> np.ndarray:
        """Terms of each tie in these forms, (tie, term)."""
        none = np.zeros(1)
        return np.array(
            [
                np.concatenate(
                    [
                        weight * design(shape, none, np.array([tie.T]), self.reference)[0]
                        for weight, shape in zip(tie.weights, shapes, strict=True)
                    ]
                )
                for tie in self.ties
            ]
        )


def candidates(c: np.ndarray, T: np.ndarray) -> list[Shape]:
    """List the staircases of powers that these concentrations and temperatures can tell apart.

    Parameters
    ----------
    c : numpy.ndarray
        Concentrations (mol m-3), (condition,).
    T : numpy.ndarray
        Temperatures (K), (condition,).
    """
    salt = min(len(np.unique(c)), SALT_POWERS) - 1
    heat = min(len(np.unique(T)), HEAT_POWERS)
    most = max(len(c) - max(len(c) // SPARE, 1), 1)
    found = []
    for powers in product(range(salt, -2, -1), repeat=heat):
        kept = tuple(power for power in powers if power >= 0)
        falling = all(one >= other for one, other in pairwise(powers))
        if kept and falling and Shape(kept).terms <= most:
            found.append(Shape(kept))
    vogel = [
        Shape(shape.powers, float(share * T.min()))
        for shape in found
        if len(shape.powers) == 2 and heat > 2
        for share in VANISHING
    ]
    return found + vogel


def design(shape: Shape, c: np.ndarray, T: np.ndarray, reference: float) -> np.ndarray:
    """Powers of sqrt(c) and of the reduced temperature (1), (condition, term).

    Parameters
    ----------
    shape : Shape
        The terms.
    c : numpy.ndarray
        Concentrations (mol m-3), (condition,).
    T : numpy.ndarray
        Temperatures (K), (condition,).
    reference : float
        Reference temperature (K).
    """
    root = np.sqrt(c / 1000)
    tau = (reference - shape.vanishing) / (T - shape.vanishing) - 1
    columns = [
        root**k * tau**j for j, highest in enumerate(shape.powers) for k in range(highest + 1)
    ]
    return np.stack(columns, axis=1)


def weigh(
    c: np.ndarray, T: np.ndarray, reference: float, data: np.ndarray, covariance: np.ndarray
) -> Weighed:
    r"""Weigh every form of each property by its evidence.

    .. math:: \ln Z = -\tfrac12 \chi^2 - \tfrac12 p \ln n, \qquad
              \ln Z = -\tfrac12 n \ln \chi^2 - \tfrac12 p \ln n

    for stated and for unknown errors; a vanishing temperature has its share of a uniform prior.
    Where the best form has a :math:`\chi^2` beyond 99 % the size of the errors counts as unknown
    too, and they are multiplied by :math:`\sqrt{\chi^2 / (n - p)}` of the best form then.

    Parameters
    ----------
    c, T, reference, data
        As in `Weighed`.
    covariance : numpy.ndarray
        Stated covariance, (condition, property, property); nan on the diagonal where an error is
        not known.

    Raises
    ------
    ValueError
        If an error is not known and there are too few conditions to take it from the scatter.
    """
    covariance = covariance.copy()
    table = _families(candidates(c, T), c, T, reference)
    forms = [shape for family, _ in table for shape in family]
    shapes, weights, chi_squared, freedom, inflation = [], [], [], [], []
    for index, y in enumerate(data):
        error = np.sqrt(covariance[:, index, index])
        stated = bool(np.isfinite(error).all())
        if not stated:
            covariance[:, index, :] = covariance[:, :, index] = 0.0
            covariance[:, index, index] = 1.0
            error = np.ones(len(c))
        misfits = np.concatenate([_misfit(bases, y, error) for _, bases in table])
        kept, chance, factor = _weights(forms, misfits, len(c), stated)
        left = len(c) - forms[kept[0]].terms
        shapes.append(tuple(forms[place] for place in kept))
        weights.append(chance)
        chi_squared.append(misfits[kept[0]] if stated else np.nan)
        freedom.append(left)
        inflation.append(factor if stated else np.nan)
        covariance[:, index, :] *= factor
        covariance[:, :, index] *= factor
    return Weighed(
        c=c,
        T=T,
        reference=reference,
        data=data,
        covariance=covariance,
        shapes=tuple(shapes),
        weights=tuple(weights),
        chi_squared=np.array(chi_squared),
        freedom=np.array(freedom),
        inflation=np.array(inflation),
    )


def posterior(weighed: Weighed, shapes: Sequence[Shape]) -> tuple[np.ndarray, np.ndarray]:
    """Joint coefficients of all properties in these forms, and a root of their covariance.

    Parameters
    ----------
    weighed : Weighed
        The data.
    shapes : sequence of Shape
        One form for each property.

    Returns
    -------
    tuple of numpy.ndarray
        Coefficients (term,) of one property after the other, and a matrix A (term, term) so that
        A A^T is their covariance.
    """
    joint = weighed.design(shapes)
    scale = np.linalg.norm(joint, axis=(0, 1))
    lower = np.linalg.cholesky(weighed.covariance)
    whitened = np.linalg.solve(lower, joint / scale).reshape(-1, len(scale))
    y = np.linalg.solve(lower, weighed.data.T[..., None]).ravel()
    if weighed.ties:
        error = np.array([tie.error for tie in weighed.ties])
        whitened = np.vstack([whitened, weighed.tied(shapes) / scale / error[:, None]])
        y = np.concatenate([y, np.array([tie.value for tie in weighed.ties]) / error])
    Q, R = np.linalg.qr(whitened)
    root = solve_triangular(R, np.eye(len(scale))) / scale[:, None]
    return root @ (Q.T @ y), root


def best(weighed: Weighed) -> tuple[np.ndarray, np.ndarray]:
    """Series of the forms of highest evidence, and a root of their covariance.

    Returns
    -------
    tuple of numpy.ndarray
        (property, 1 + term), the vanishing temperature (K) first; and (direction, property,
        1 + term), whose sum of squares over direction is the variance.
    """
    shapes = [each[0] for each in weighed.shapes]
    centre, root = posterior(weighed, shapes)
    value = _series(shapes, centre)
    return value, _series(shapes, centre + root.T) - value


def sample(
    weighed: Weighed, draws: int, rng: np.random.Generator
) -> tuple[np.ndarray, list[tuple[str, ...]]]:
    """Draw forms by their evidence and coefficients from the joint posterior of those forms.

    Four draws one after the other share their forms, so that a budget can tell the sampling within
    them from the choice of forms; every fourth draw is independent.

    Parameters
    ----------
    weighed : Weighed
        The data.
    draws : int
        Number of draws.
    rng : numpy.random.Generator
        Their source.

    Returns
    -------
    tuple
        Series (draw, property, 1 + term), the vanishing temperature (K) first, and the labels of
        the forms of each draw.
    """
    choices = -(-draws // TOGETHER)
    picks = np.stack([rng.choice(len(chance), choices, p=chance) for chance in weighed.weights], 1)
    picks = np.repeat(picks, TOGETHER, axis=0)[:draws]
    scale = np.ones(picks.shape)
    for index in np.flatnonzero(~(weighed.inflation == 1)):
        # Student's tails, for the error itself was taken from few residuals
        free = weighed.freedom[index]
        scale[:, index] = np.sqrt(free / rng.chisquare(free, draws))
    drawn = np.empty((*picks.shape, 1 + SALT_POWERS * HEAT_POWERS))
    labels: list[tuple[str, ...]] = [()] * draws
    for combination in np.unique(picks, axis=0):
        chosen = [each[place] for each, place in zip(weighed.shapes, combination, strict=True)]
        mine = np.flatnonzero((picks == combination).all(1))
        centre, root = posterior(weighed, chosen)
        away = rng.standard_normal((len(mine), len(centre))) @ root.T
        away *= np.repeat(scale[mine], [shape.terms for shape in chosen], axis=1)
        drawn[mine] = _series(chosen, centre + away)
        for draw in mine:
            labels[draw] = tuple(shape.label for shape in chosen)
    return drawn, labels


def _weights(
    shapes: list[Shape], misfits: np.ndarray, count: int, stated: bool
) -> tuple[np.ndarray, np.ndarray, float]:
    """Places of the forms worth keeping, best first, their chances, and the widening of errors."""
    terms = np.array([shape.terms for shape in shapes])
    prior = np.array([-np.log(len(VANISHING)) if shape.vanishing else 0.0 for shape in shapes])
    prior = prior - 0.5 * terms * np.log(count)
    log, factor = prior - 0.5 * misfits, 1.0
    top = int(np.argmax(log))
    refuted = misfits[top] > chi2.ppf(SURE, max(count - terms[top], 1))
    enough = count - terms >= 2
    if not stated and not enough.any():
        raise ValueError(
            f"Fit of the laws: an error is nan, and {count} conditions are too few to take it "
            "from their scatter; give it."
        )
    if not stated or (refuted and enough.any()):
        floor = 1e-24 * max(float(misfits.max()), 1e-300)
        log = np.where(enough, prior - 0.5 * count * np.log(np.maximum(misfits, floor)), -np.inf)
        top = int(np.argmax(log))
        factor = float(np.sqrt(max(misfits[top], floor) / (count - terms[top])))
        if stated:
            factor = max(factor, 1.0)
    kept = np.flatnonzero(log > log[top] - SHORTLIST)
    kept = kept[np.argsort(-log[kept], kind="stable")]
    chance = np.exp(log[kept] - log[top])
    return kept, chance / chance.sum(), factor


def _families(
    shapes: list[Shape], c: np.ndarray, T: np.ndarray, reference: float
) -> list[tuple[list[Shape], np.ndarray]]:
    """Forms with the same number of terms and their designs (form, condition, term), norm 1.

    Forms whose terms cannot be told apart at these conditions are left out.
    """
    found = []
    for terms in sorted({shape.terms for shape in shapes}):
        family = [shape for shape in shapes if shape.terms == terms]
        bases = np.stack([design(shape, c, T, reference) for shape in family])
        bases /= np.linalg.norm(bases, axis=1, keepdims=True)
        triangle = np.linalg.qr(bases, mode="r")
        pivots = np.abs(np.diagonal(triangle, axis1=1, axis2=2)).min(1)
        kept = np.flatnonzero(pivots > SMALLEST_PIVOT)
        if len(kept):
            found.append(([family[index] for index in kept], bases[kept]))
    return found


def _misfit(bases: np.ndarray, y: np.ndarray, error: np.ndarray) -> np.ndarray:
    """Chi squared of the law of best fit of each form."""
    Q, _ = np.linalg.qr(bases / error[:, None])
    scaled = y / error
    explained = np.einsum("fct,c->ft", Q, scaled)
    return np.square(scaled - np.einsum("fct,ft->fc", Q, explained)).sum(1)


def _series(shapes: Sequence[Shape], values: np.ndarray) -> np.ndarray:
    """Spread coefficients (..., term) over (..., property, 1 + term), zeros where there is none."""
    whole = np.zeros((*values.shape[:-1], len(shapes), 1 + SALT_POWERS * HEAT_POWERS))
    start = 0
    for index, shape in enumerate(shapes):
        whole[..., index, 0] = shape.vanishing
        whole[..., index, 1 + shape.places] = values[..., start : start + shape.terms]
        start += shape.terms
    return whole
