"""Differential capacitance of an electrode in a salt solution: four theories, one figure.

Gouy and Chapman let point ions crowd without limit, so C(V) is a bowl that never closes. Stern
puts a layer in series that no ion enters. Ions of finite size (Bikerman; Kilic, Bazant and Ajdari)
fill the layer: C rises, turns and falls. Each is known in closed form; finite elements solve the
same boundary-value problem and must agree with it.

    python study.py            # 3 s on one core; writes double_layer_capacitance.png

References: https://doi.org/10.1021/cr60130a002 (Grahame 1947),
https://doi.org/10.1103/PhysRevE.75.021502 (Kilic, Bazant, Ajdari 2007).
"""

from pathlib import Path

import numpy as np
import xarray as xr

from continuum import double_layer
from continuum.inputs import Solution, Species, Wall
from continuum.poisson_boltzmann import solve

CONCENTRATION = 100.0  # mol m-3
DIAMETER = 0.66e-9  # m, a hydrated ion
STERN = 0.3  # F m-2
POTENTIALS = np.linspace(-0.4, 0.4, 81)  # V


def salt(diameter: float) -> Solution:
    """Make a 1:1 electrolyte in water whose ions have this diameter (m)."""
    ions = (("Na+", 1), ("Cl-", -1))
    return Solution(tuple(Species(name, z, CONCENTRATION, diameter=diameter) for name, z in ions))


def closed_forms() -> xr.Dataset:
    """Differential capacitance (F m-2) of the three theories at each potential."""
    points, sized = salt(0.0), salt(DIAMETER)
    diffuse = double_layer.diffuse_potential(points, POTENTIALS, stern_capacitance=STERN)
    in_series = 1 / (1 / STERN + 1 / double_layer.capacitance(points, diffuse))
    theories = {
        "Gouy-Chapman": double_layer.capacitance(points, POTENTIALS),
        "Gouy-Chapman-Stern": in_series,
        "steric": double_layer.capacitance(sized, POTENTIALS),
    }
    return xr.Dataset(
        {name: ("potential", values, {"units": "F m-2"}) for name, values in theories.items()},
        coords={"potential": ("potential", POTENTIALS, {"units": "V"})},
    )


def finite_elements(every: int = 10) -> xr.Dataset:
    """Solve the same problems by finite elements, at every so many potentials."""
    cases = {
        "Gouy-Chapman": (salt(0.0), None),
        "Gouy-Chapman-Stern": (salt(0.0), STERN),
        "steric": (salt(DIAMETER), None),
    }
    potentials = POTENTIALS[::every]
    found = {
        name: [
            float(
                solve(solution, {"left": Wall(potential=float(V), stern_capacitance=stern)})[
                    "differential_capacitance"
                ].sel(wall="left")
            )
            for V in potentials
        ]
        for name, (solution, stern) in cases.items()
    }
    return xr.Dataset(
        {name: ("potential", values, {"units": "F m-2"}) for name, values in found.items()},
        coords={"potential": ("potential", potentials, {"units": "V"})},
    )


def draw(theory: xr.Dataset, solved: xr.Dataset, path: Path) -> None:
    """Plot lines of the theories and marks of the finite elements."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    for name, colour in zip(theory, ("#4477aa", "#228833", "#cc6677"), strict=True):
        axes.plot(theory.potential, theory[name] * 100, color=colour, label=str(name))
        axes.plot(solved.potential, solved[name] * 100, "o", color=colour, markersize=4)
    axes.set(xlabel="electrode potential (V)", ylabel="capacitance (µF cm⁻²)", ylim=(0, 250))
    title = "lines: closed forms, marks: finite elements"
    figure.legend(loc="outside upper center", ncols=3, title=title, frameon=False)
    figure.savefig(path, dpi=150)
    plt.close(figure)


if __name__ == "__main__":
    theory, solved = closed_forms(), finite_elements()
    for name in theory:
        error = abs(solved[name] / theory[name].sel(potential=solved.potential) - 1).max()
        print(f"{name}: finite elements within {float(error):.1e} of the closed form")
    path = Path(__file__).with_name("double_layer_capacitance.png")
    draw(theory, solved, path)
    print(f"figure: {path.name}")
