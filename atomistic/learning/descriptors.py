r"""What surrounds an atom, in numbers that do not change when the structure is turned or renamed.

Both sets are sums over pairs of neighbours of a polynomial in the cosine between them. Written as
products of moments of the neighbours' density they cost one pass over the neighbours, not one
over their pairs:

.. math:: \sum_{jk} g(r_j)\,h(r_k)\cos^p\theta_{jk}
          = \sum_{a+b+c=p} \frac{p!}{a!\,b!\,c!}\, M^g_{abc} M^h_{abc}, \qquad
          M^g_{abc} = \sum_j g(r_j)\,\hat x_j^a \hat y_j^b \hat z_j^c .
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from scipy.linalg import inv, sqrtm
from scipy.special import gamma, legendre

SMALLEST = 1e-3  # of a primitive radial function of SOAP at the radius that belongs to it


@dataclass(frozen=True)
class SymmetryFunctions:
    r"""Atom-centred symmetry functions of Behler and Parrinello, by the neighbours' elements.

    .. math:: G_n = \sum_j e^{-\eta (r_j - r_n)^2} f(r_j), \qquad
              G_{n \zeta \lambda} = 2^{1-\zeta} \sum_{j<k} (1 + \lambda\cos\theta_{jk})^\zeta
              e^{-\eta' [(r_j - r'_n)^2 + (r_k - r'_n)^2]} f(r_j) f(r_k)

    with centres r_n spread evenly and widths of their spacing, and a cutoff f that falls from one
    to zero with two continuous derivatives.

    Parameters
    ----------
    cutoff : float
        Farthest neighbour (Å).
    radial : int
        Number of radial functions.
    shells : int
        Number of radial parts of the angular functions.
    powers : tuple of int
        The zeta of the angular functions; each comes with lambda 1 and -1.
    nearest : float
        Centre of the first radial function (Å).

    References
    ----------
    Behler, Parrinello, Phys. Rev. Lett. 98, 146401 (2007),
    https://doi.org/10.1103/PhysRevLett.98.146401

    Behler, J. Chem. Phys. 134, 074106 (2011), https://doi.org/10.1063/1.3553717
    """

    cutoff: float = 6.0
    radial: int = 8
    shells: int = 3
    powers: tuple[int, ...] = (1, 2, 4)
    nearest: float = 1.0

    def sizes(self) -> tuple[int, int]:
        """Return how many features there are per neighbouring element and per pair of them."""
        return self.radial, self.shells * 2 * len(self.powers)

    def features(
        self,
        centre: torch.Tensor,
        kind: torch.Tensor,
        vector: torch.Tensor,
        *,
        atoms: int,
        kinds: int,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the functions: one neighbour (atom, function, element), two (atom, .., pair).

        Parameters
        ----------
        centre : torch.Tensor
            Atom that each pair of atoms starts from.
        kind : torch.Tensor
            Index of the neighbour's element.
        vector : torch.Tensor
            To the neighbour (Å; pair, xyz).
        atoms, kinds : int
            Number of atoms and of elements.
        """
        distance = vector.norm(dim=1)
        window = switched_off(distance, self.cutoff, begin=0.0)
        one = window[:, None] * self._bumps(distance, self.radial)
        summed = one.new_zeros(atoms * kinds, self.radial).index_add(0, centre * kinds + kind, one)
        shells = window[:, None] * self._bumps(distance, self.shells)
        direction = vector / distance[:, None]
        moments = [
            _moments(centre, kind, shells, direction, degree, atoms, kinds)
            for degree in range(max(self.powers) + 1)
        ]
        # cosines to each power, summed over pairs of neighbours: atom, shell, pair of elements
        sums = [
            torch.stack(
                [
                    torch.einsum("inm,inm,m->in", moment[:, a], moment[:, b], weight)
                    for a, b in pairs_of(kinds)
                ],
                dim=2,
            )
            for degree, moment in enumerate(moments)
            for weight in [_weights(degree, moment)]
        ]
        # a neighbour is no pair with itself
        itself = one.new_zeros(atoms * kinds, self.shells)
        itself = itself.index_add(0, centre * kinds + kind, shells**2).reshape(atoms, kinds, -1)
        alone = torch.stack(
            [
                itself[:, a] if a == b else torch.zeros_like(itself[:, a])
                for a, b in pairs_of(kinds)
            ],
            dim=2,
        )
        once = one.new_tensor([0.5 if a == b else 1.0 for a, b in pairs_of(kinds)])
        found = []
        for power in self.powers:
            for sign in (1, -1):
                total = sum(
                    math.comb(power, degree) * sign**degree * sums[degree]
                    for degree in range(power + 1)
                )
                diagonal = alone * float((1 + sign) ** power)
                found.append(2.0 ** (1 - power) * once * (total - diagonal))
        angular = torch.stack(found, dim=1).flatten(1, 2)
        return summed.reshape(atoms, kinds, self.radial).transpose(1, 2), angular

    def _bumps(self, distance: torch.Tensor, count: int) -> torch.Tensor:
        centres = torch.linspace(
            self.nearest, self.cutoff, count + 1, dtype=distance.dtype, device=distance.device
        )[:-1]
        spacing = (self.cutoff - self.nearest) / count
        return torch.exp(-(((distance[:, None] - centres) / spacing) ** 2))


@dataclass(frozen=True)
class PowerSpectrum:
    r"""Smooth overlap of atomic positions: the power spectrum of a density of Gaussians.

    .. math:: p_{nn'l} = \sum_m c_{nlm} c_{n'lm}, \qquad c_{nlm} = \int \mathrm{d}^3 r\,
              g_{nl}(r) Y_{lm}(\hat r) \sum_j f(r_j)\, e^{-|r - r_j|^2 / 2 s^2}

    in the radial basis of dscribe: Gaussians times r^l, made orthonormal. Their integrals with the
    density are Gaussians again, in closed form.

    Parameters
    ----------
    cutoff : float
        Farthest neighbour (Å).
    n_max : int
        Number of radial functions.
    l_max : int
        Highest degree of the angular part.
    width : float
        s, of the density around each neighbour (Å).
    onset : float
        Of the cutoff, where the switch f begins (1).

    References
    ----------
    Bartok, Kondor, Csanyi, Phys. Rev. B 87, 184115 (2013),
    https://doi.org/10.1103/PhysRevB.87.184115

    Himanen et al., Comput. Phys. Commun. 247, 106949 (2020),
    https://doi.org/10.1016/j.cpc.2019.106949
    """

    cutoff: float = 6.0
    n_max: int = 4
    l_max: int = 3
    width: float = 0.5
    onset: float = 0.5

    def sizes(self) -> tuple[int, int]:
        """Return how many features there are per neighbouring element and per pair of them."""
        return 0, self.n_max * (self.n_max + 1) // 2 * (self.l_max + 1)

    def features(
        self,
        centre: torch.Tensor,
        kind: torch.Tensor,
        vector: torch.Tensor,
        *,
        atoms: int,
        kinds: int,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the spectrum as that of two neighbours (atom, feature, pair of elements).

        Parameters
        ----------
        centre : torch.Tensor
            Atom that each pair of atoms starts from.
        kind : torch.Tensor
            Index of the neighbour's element.
        vector : torch.Tensor
            To the neighbour (Å; pair, xyz).
        atoms, kinds : int
            Number of atoms and of elements.
        """
        distance = vector.norm(dim=1)
        window = switched_off(distance, self.cutoff, begin=self.onset * self.cutoff)
        direction = vector / distance[:, None]
        upper = torch.triu_indices(self.n_max, self.n_max, device=vector.device)
        parts = []
        for degree in range(self.l_max + 1):
            radial = window[:, None] * self._radial(distance, degree)
            total: torch.Tensor | float = 0.0
            for power, weight in enumerate(legendre(degree).coef[::-1]):
                if abs(weight) < 1e-12:  # of the other parity
                    continue
                moment = _moments(centre, kind, radial, direction, power, atoms, kinds)
                product = torch.einsum(
                    "iapm,ibqm,m->iabpq", moment, moment, _weights(power, moment)
                )
                total = total + weight * product
            assert isinstance(total, torch.Tensor)
            # addition theorem, and dscribe's normalisation
            total = total * math.pi * math.sqrt(8 / (2 * degree + 1)) * (2 * degree + 1)
            total = total / (4 * math.pi)
            pairs = [
                total[:, a, a] if a == b else total[:, a, b] + total[:, a, b].transpose(1, 2)
                for a, b in pairs_of(kinds)
            ]
            parts.append(torch.stack(pairs, dim=3)[:, upper[0], upper[1]])
        angular = torch.cat(parts, dim=1)
        return angular.new_zeros(atoms, 0, kinds), angular

    def _radial(self, distance: torch.Tensor, degree: int) -> torch.Tensor:
        basis = _gaussian_basis(self.n_max, degree, self.cutoff, self.width)
        exponents, weights = (distance.new_tensor(each) for each in basis)
        return (
            distance[:, None] ** degree * torch.exp(-exponents * distance[:, None] ** 2) @ weights
        )


@cache
def _gaussian_basis(
    count: int, degree: int, cutoff: float, width: float
) -> tuple[np.ndarray, np.ndarray]:
    r"""Exponents and weights of the radial integrals as sums of :math:`r^l e^{-b r^2}`.

    For a primitive :math:`r^l e^{-\alpha r^2}` the integral with a Gaussian at r_j is
    :math:`4\pi\,(\pi^{1/2}/4)\,(2\sigma^2)^{3/2}(1 + 2\alpha\sigma^2)^{-l-3/2}\,r_j^l
    e^{-\alpha r_j^2/(1 + 2\alpha\sigma^2)}`.
    """
    radii = np.linspace(1.0, cutoff, count)
    alpha = -np.log(SMALLEST / radii**degree) / radii**2
    overlap = 0.5 * gamma(degree + 1.5) * (alpha[:, None] + alpha[None]) ** (-degree - 1.5)
    orthonormal = np.real(sqrtm(inv(overlap)))
    wide = 1 + 2 * alpha * width**2
    integral = math.pi**1.5 * (2 * width**2) ** 1.5 * wide ** (-degree - 1.5)
    return alpha / wide, (orthonormal * integral).T.copy()


def pairs_of(kinds: int) -> list[tuple[int, int]]:
    """List the unordered pairs of elements, in the order of the features."""
    return [(a, b) for a in range(kinds) for b in range(a, kinds)]


def switched_off(distance: torch.Tensor, cutoff: float, *, begin: float) -> torch.Tensor:
    """Fall from one to zero between two distances (Å), with two continuous derivatives."""
    x = ((distance - begin) / (cutoff - begin)).clamp(0.0, 1.0)
    return 1 - x**3 * (10 - 15 * x + 6 * x**2)


def _moments(
    centre: torch.Tensor,
    kind: torch.Tensor,
    radial: torch.Tensor,
    direction: torch.Tensor,
    degree: int,
    atoms: int,
    kinds: int,
) -> torch.Tensor:
    """Sum radial functions times monomials over neighbours: atom, element, function, monomial."""
    axes = direction.unbind(1)
    monomials = torch.stack([_monomial(axes, powers) for powers in _split(degree)], dim=1)
    terms = (radial[:, :, None] * monomials[:, None, :]).flatten(1)
    summed = terms.new_zeros(atoms * kinds, terms.shape[1]).index_add(
        0, centre * kinds + kind, terms
    )
    return summed.reshape(atoms, kinds, radial.shape[1], -1)


def _monomial(axes: tuple[torch.Tensor, ...], powers: tuple[int, int, int]) -> torch.Tensor:
    product = torch.ones_like(axes[0])
    for axis, power in zip(axes, powers, strict=True):
        for _ in range(power):
            product = product * axis
    return product


@cache
def _split(degree: int) -> list[tuple[int, int, int]]:
    return [(a, b, degree - a - b) for a in range(degree + 1) for b in range(degree + 1 - a)]


def _weights(degree: int, like: torch.Tensor) -> torch.Tensor:
    count = [
        math.factorial(degree) / math.prod(math.factorial(power) for power in powers)
        for powers in _split(degree)
    ]
    return like.new_tensor(count)
