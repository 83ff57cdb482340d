"""An electrode from its atoms to its capacitance: inner layer, matching loop, C(V) with an error.

Molecular dynamics gives the charge of an electrode, its capacitance and the profile of the ions
next to it, all with noise. What lies between the electrode and the ions is the inner layer:
1/C less the diffuse layer's 1/C_d. Put back in series with Poisson and Boltzmann's ions, at
another concentration, it predicts a capacitance that nobody simulated.

Here the "simulation" is drawn from an inner layer that is known, so that the prediction can be
compared with the truth: 0.1 M is measured with 1 % of noise, 0.01 M is predicted.

    python study.py            # 7 s on one core; writes double_layer_matching.png

References: https://doi.org/10.1021/cr60130a002 (Grahame 1947).
"""

from pathlib import Path

import numpy as np
import xarray as xr
from scipy.constants import Avogadro, gas_constant

from continuum import double_layer as closed
from continuum.inputs import FARADAY, Interface, Solution, Species
from couplers.double_layer import inner_layer, interface
from couplers.matching import finite_element_layer, match

ZERO = 0.12  # V, potential of zero charge against the bulk
MEASURED, PREDICTED = 100.0, 10.0  # mol m-3
NOISE, DRAWS = 0.01, 20
PLANE = 3.2e-10  # m, how near the ions come
POTENTIALS = ZERO + np.linspace(-0.35, 0.35, 15)  # V


def salt(concentration: float) -> Solution:
    """Make a 1:1 electrolyte in water (mol m-3)."""
    return Solution((Species("Na+", 1, concentration), Species("Cl-", -1, concentration)))


def true_capacitance(charge: np.ndarray) -> np.ndarray:
    """Capacitance (F m-2) of the inner layer, higher where cations face the electrode."""
    return 0.22 - 0.3 * charge + 2.0 * charge**2


def true_inner_potential(charge: np.ndarray) -> np.ndarray:
    """Integral (V) of 1 / C_H from no charge on, by quadrature."""
    node, weight = np.polynomial.legendre.leggauss(40)
    points = 0.5 * np.multiply.outer(np.asarray(charge), node + 1)
    return 0.5 * np.asarray(charge) * ((1 / true_capacitance(points)) @ weight)


def simulated_capacitance(seed: int = 1) -> xr.Dataset:
    """Charge and capacitance at 0.1 M as molecular dynamics would hand them over."""
    rng = np.random.default_rng(seed)
    charge = np.linspace(-0.09, 0.09, 19)
    zeta = closed.surface_potential(salt(MEASURED), charge)
    total = 1 / (1 / true_capacitance(charge) + 1 / closed.capacitance(salt(MEASURED), zeta))
    along = "potential"
    measured = total * (1 + NOISE * rng.standard_normal(19))
    draws = measured[:, None] * (1 + NOISE * rng.standard_normal((19, DRAWS)))
    units = {"units": "F m-2"}
    return xr.Dataset(
        {
            "differential_capacitance": (along, measured, units),
            "differential_capacitance_std": (along, NOISE * total, units),
            "differential_capacitance_draw": ((along, "draw"), draws, units),
            "surface_charge": (along, charge, {"units": "C m-2"}),
            "surface_charge_std": (along, np.full(19, 2e-4), {"units": "C m-2"}),
        },
        coords={along: (along, ZERO + true_inner_potential(charge) + zeta, {"units": "V"})},
        attrs={"reference": "bulk", "method": "fluctuations of the charge"},
    )


def simulated_profile(seed: int = 2) -> xr.Dataset:
    """Ions at the uncharged electrode at 0.1 M; sodium likes a place 0.15 nm from the plane."""
    rng = np.random.default_rng(seed)
    z = (np.arange(300) + 0.5) * 2e-11
    well = -2.5e3 * np.exp(-(((z - PLANE - 1.5e-10) / 8e-11) ** 2))
    thermal = gas_constant * salt(MEASURED).temperature
    bulk = Avogadro * MEASURED
    density = np.stack([bulk * np.exp(-well / thermal), np.full(300, bulk)]) * (z > PLANE)
    noisy = density * (1 + NOISE * rng.standard_normal(density.shape))
    rest = np.zeros(300)
    return xr.Dataset(
        {
            "temperature": ((), salt(MEASURED).temperature, {"units": "K"}),
            "charge_number": ("species", [1.0, -1.0], {"units": "1"}),
            "number_density": (("species", "z"), noisy, {"units": "m-3"}),
            "number_density_std": (("species", "z"), NOISE * density + 1e20, {"units": "m-3"}),
            "charge_density": ("z", FARADAY / Avogadro * (noisy[0] - noisy[1]), {"units": "C m-3"}),
            "charge_density_std": ("z", np.full(300, np.nan), {"units": "C m-3"}),
            "potential": ("z", rest, {"units": "V"}),
            "potential_std": ("z", np.full(300, 1e-3), {"units": "V"}),
            "surface_charge": ((), 0.0, {"units": "C m-2"}),
            "surface_charge_std": ((), np.nan, {"units": "C m-2"}),
        },
        coords={"z": ("z", z, {"units": "m"}), "species": ["Na+", "Cl-"]},
        attrs={"reference": "bulk", "boundary": "slab", "electrode_control": "charge"},
    )


def predicted(inner: Interface) -> xr.Dataset:
    """Match the inner layer to the ions at 0.01 M; add C(V) = 1 / (1/C_H + 1/C_d)."""
    found = match(salt(PREDICTED), inner, potentials=POTENTIALS)
    layer = inner.capacitance(found["surface_charge"].values)
    diffuse = closed.capacitance(salt(PREDICTED), found["matching_potential"].values)
    found["differential_capacitance"] = (
        "potential",
        1 / (1 / layer + 1 / diffuse),
        {"units": "F m-2"},
    )
    return found


def truth() -> xr.Dataset:
    """Capacitance (F m-2) at 0.01 M of the inner layer that was put in."""
    charge = np.linspace(-0.12, 0.12, 2001)
    zeta = closed.surface_potential(salt(PREDICTED), charge)
    total = 1 / (1 / true_capacitance(charge) + 1 / closed.capacitance(salt(PREDICTED), zeta))
    potential = ZERO + true_inner_potential(charge) + zeta
    along = "potential"
    return xr.Dataset(
        {"differential_capacitance": (along, np.interp(POTENTIALS, potential, total))},
        coords={along: (along, POTENTIALS, {"units": "V"})},
    )


def prediction_with_error() -> tuple[xr.Dataset, xr.Dataset]:
    """Return the prediction of the estimates and those of the draws, each through the loop."""
    measured = simulated_capacitance()
    one = predicted(interface(measured, solution=salt(MEASURED)))
    draws = [predicted(interface(measured, solution=salt(MEASURED), draw=k)) for k in range(DRAWS)]
    return one, xr.concat(draws, "draw")


def with_mean_forces() -> xr.Dataset:
    """Match at three potentials with an outer layer of finite elements that knows the profile."""
    inner = interface(
        simulated_capacitance(),
        solution=salt(MEASURED),
        profile=simulated_profile(),
        electrode=0.0,
        bulk=(4e-9, 6e-9),
    )
    outer = finite_element_layer(salt(MEASURED), inner)
    return match(salt(MEASURED), inner, potentials=[ZERO - 0.2, ZERO, ZERO + 0.2], outer=outer)


def draw(one: xr.Dataset, draws: xr.Dataset, exact: xr.Dataset, path: Path) -> None:
    """Plot the prediction with its 95 % band, and the truth."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    low, high = draws["differential_capacitance"].quantile([0.025, 0.975], "draw") * 100
    axes.fill_between(one.potential, low, high, color="#4477aa", alpha=0.3, label="95 % of draws")
    axes.plot(one.potential, one["differential_capacitance"] * 100, color="#4477aa", label="loop")
    axes.plot(
        exact.potential, exact["differential_capacitance"] * 100, "k:", label="truth at 0.01 M"
    )
    axes.set(xlabel="electrode potential (V)", ylabel="capacitance (µF cm⁻²)")
    axes.legend(frameon=False)
    figure.savefig(path, dpi=150)
    plt.close(figure)


if __name__ == "__main__":
    layer = inner_layer(simulated_capacitance(), solution=salt(MEASURED))
    print(f"inner layer at {MEASURED:g} mol m-3: {layer.attrs['outcome']}")
    one, draws = prediction_with_error()
    exact = truth()
    off = abs(one["differential_capacitance"] / exact["differential_capacitance"] - 1)
    print(f"loop: {one.attrs['outcome']}, at most {int(one['iterations'].max())} iterations")
    print(f"capacitance at {PREDICTED:g} mol m-3 within {float(off.max()):.1%} of the truth")
    print(f"with mean forces: {with_mean_forces().attrs['outcome']}")
    path = Path(__file__).with_name("double_layer_matching.png")
    draw(one, draws, exact, path)
    print(f"figure: {path.name}")
