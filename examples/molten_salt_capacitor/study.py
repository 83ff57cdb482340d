r"""Molten sodium chloride between two electrodes: layers, charge and capacitance with error bars.

Ions at 1100 K stand between two plates of metal held at -1 to 1 V. What acts at short range,
charges with electrodes at constant potential, and walls are three models that are added up; all
voltages run in one batch, and profiles and charges are gathered while it runs. What comes out is a
PROFILE of each voltage and a CAPACITANCE of one electrode, checked at the border and written to
netCDF.

    python study.py [picoseconds]         # Fumi and Tosi's ions: molten_salt.nc
    python study.py learnt [picoseconds]  # three students of SevenNet-0: learnt.nc
    python study.py draw                  # molten_salt_capacitor.png from both

The students (`examples/molten_salt_student`) learnt what SevenNet-0 says of the melt less formal
charges in a medium of permittivity 2, that of the ions' electrons; here the charges come back with
the electrodes, in the same medium. Each student runs on its own, and what they differ by beyond
their sampling errors is the potential's share of the error; in runs of 9 ps none can be told, so
that they agree on a cell with the medium throughout to within 4 %. Fumi and Tosi's rigid ions, in
a vacuum, are the oracle beside.

A medium throughout fills the gap between plate and melt as well, where there are no electrons: it
is taken out of there (`atomistic.observables.gaps`), as a capacitor in series with the cell that
was run. The gap is where ions of either kind first reach half of their density, less their radius:
1.5 ± 0.5 Å, the error being what sodium and chloride differ by. So the students' voltages are those
that were set and what falls in the gaps, -1.8 to 1.8 V.

Recorded, in µF cm-2: a cell of the students holds 2.5 ± 0.3 by the slope of the charge (3 x 9 ps)
and 2.3 ± 0.3 to 2.5 ± 0.4 by its fluctuations, each electrode 5.0 ± 0.7, nearly all of the error
from the gap; of Fumi and Tosi's ions 2.6 ± 0.1 (8 ps) and 2.4 ± 0.3 to 3.1 ± 0.9, 5.1 ± 0.4. With
the medium throughout, recorded beside, the students' cell would hold 4.4 ± 0.1 to 4.6 ± 0.2.
Electrodes of theirs carry no charge at -0.26 ± 0.03 V against the melt, of Fumi and Tosi's at 0.01
± 0.05 V.

References: https://doi.org/10.1016/0022-3697(64)90159-3 (ions),
https://doi.org/10.1063/1.2464084 (a molten salt at an electrode),
https://doi.org/10.1107/S0567739476001551 (radii).
"""

import json
import sys
from dataclasses import replace
from pathlib import Path

import torch
import torch_sim
import xarray as xr
from ase import Atoms

sys.path.insert(0, str(Path(__file__).parents[1] / "molten_salt_student"))
import frames

from atomistic.dynamics import Schedule, sample
from atomistic.observables import layers
from atomistic.observables.capacitance import capacitance, committee
from atomistic.observables.gaps import edge_of_ions, with_gaps
from atomistic.observables.interface import profile
from atomistic.potentials.ionic import sodium_chloride
from atomistic.potentials.load import Potential, load
from atomistic.schema import CAPACITANCE, PROFILE
from atomistic.units import ANGSTROM
from couplers.contract import check

TEMPERATURE = 1100.0
SITES = 8  # along the square plates
PAIRS = 116  # of ions: the density of the melt between the walls
VOLTAGES = (-1.0, -0.5, 0.0, 0.5, 1.0)
RADII = {"Na": 1.02e-10, "Cl": 1.81e-10}  # m, of six neighbours (Shannon)
HERE = Path(__file__).parent
STUDENTS = HERE.parent / "molten_salt_student"
MEMBERS = (1, 2, 3)
MELTING = 1.5  # ps of the oracle before a student


def cell(seed: int) -> Atoms:
    """Two plates with a shaken grid of ions between them."""
    return frames.plates(seed, sites=SITES, pairs=PAIRS)


def potential(voltages: tuple[float, ...]) -> Potential:
    """Pairs of Fumi and Tosi's ions, charges between electrodes, and walls."""
    pairs = sodium_chloride(cutoff=9.0, charged=False, dtype=torch.float32)
    return _between(pairs, voltages, permittivity=1.0, name="Fumi-Tosi NaCl between electrodes")


def learnt(voltages: tuple[float, ...], member: int) -> Potential:
    """A student of SevenNet-0, charges in the medium that it was trained with, and walls."""
    place = STUDENTS / f"member_{member}"
    card = json.loads((place / "card.json").read_text())
    return _between(
        load(str(place / "nep.txt"), device="cpu"),
        voltages,
        permittivity=card["permittivity"],
        name=f"student {member} of SevenNet-0 between electrodes",
    )


def _between(
    short_range: Potential, voltages: tuple[float, ...], *, permittivity: float, name: str
) -> Potential:
    made = frames.between_electrodes(short_range, cell(0), voltages, permittivity=permittivity)
    return replace(made, name=name)


def run(
    picoseconds: float,
    *,
    voltages: tuple[float, ...] = VOLTAGES,
    member: int | None = None,
    checkpoint: Path | None = None,
    seed: int = 1,
) -> tuple[layers.Layers, Potential]:
    """Run all voltages (V) in one batch, watched every 20 fs or so, with a student or the oracle.

    A student starts from what the oracle has molten.
    """
    starts = [cell(seed * 1000 + n) for n in range(len(voltages))]
    model = potential(voltages)
    schedule = Schedule(
        timestep=2.0,
        equilibration=0.2 * picoseconds,
        production=picoseconds,
        frame_interval=500.0 * picoseconds,
    )
    if member is not None:
        molten = Schedule(timestep=2.0, equilibration=MELTING, production=0.02, frame_interval=10.0)
        found = sample([starts], model, temperatures=[TEMPERATURE], schedule=molten, seed=seed)[
            "position"
        ].values[0, :, -1]
        for one, position in zip(starts, found, strict=True):
            one.positions = position / ANGSTROM
        model = learnt(voltages, member)
        schedule = replace(schedule, timestep=3.0, equilibration=0.3 * picoseconds)
    seen = layers.start(model.model, bins=280, blocks=64)
    sample(
        [starts],
        model,
        temperatures=[TEMPERATURE],
        schedule=schedule,
        observers=[seen],
        observe_interval=20.0 if member is None else 21.0,
        checkpoint=checkpoint,
        checkpoint_interval=0.5,
        seed=seed,
    )
    return seen, model


def results(
    seen: layers.Layers, model: Potential, voltages: tuple[float, ...] = VOLTAGES
) -> dict[str, xr.Dataset]:
    """Profiles in front of the left plate, and the capacitance of one plate by both methods."""
    found = {}
    for voltage in voltages:
        one = profile(
            seen,
            model.model,
            electrode="left",
            voltage=-voltage,
            temperature=TEMPERATURE,
            charge_numbers={"Na": 1.0, "Cl": -1.0},
        )
        found[f"/profile/{voltage:+.1f} V"] = check(one, PROFILE)
    for method in ("slope", "fluctuation"):
        one = capacitance(
            seen,
            model.model,
            electrode="right",
            temperature=TEMPERATURE,
            method=method,
            alike=True,
            draws=200,
        )
        found[f"/capacitance/{method}"] = check(one, CAPACITANCE)
    return found


def together(members: list[dict[str, xr.Dataset]]) -> dict[str, xr.Dataset]:
    """Mean of what several potentials gave, with their share of the error kept apart."""
    return {
        name: check(
            committee([one[name] for one in members]),
            PROFILE if name.startswith("/profile") else CAPACITANCE,
        )
        for name in members[0]
    }


def ended(found: dict[str, xr.Dataset], model: Potential) -> dict[str, xr.Dataset]:
    """Let the medium end where the electrons of the ions do, in results of one filled with it."""
    permittivity = layers.electrodes_of(model.model).relative_permittivity
    profiles = [one for name, one in found.items() if name.startswith("/profile")]
    gap, error = edge_of_ions(profiles, RADII)
    return {
        name: check(
            with_gaps(one, gap=gap, gap_std=error, relative_permittivity=permittivity),
            PROFILE if name.startswith("/profile") else CAPACITANCE,
        )
        for name, one in found.items()
    }


def keep(
    groups: dict[str, dict[str, xr.Dataset]], file: Path, models: list[Potential], **run_as: float
) -> None:
    """Write results by group, with what they came from."""
    tree = xr.DataTree.from_dict(
        {f"{group}{name}": one for group, found in groups.items() for name, one in found.items()}
    )
    said = [{"name": one.name, "sha256": one.sha256, "cutoff": one.cutoff} for one in models]
    tree.attrs["provenance"] = json.dumps(
        {
            "made_by": "examples/molten_salt_capacitor/study.py",
            "potentials": said,
            "temperature_K": TEMPERATURE,
            "voltages_V": VOLTAGES,
            "device": "cpu",
            "torch": torch.__version__,
            "torch_sim": torch_sim.__version__,
            **run_as,
        }
    )
    tree.to_netcdf(file, engine="h5netcdf")


def draw(
    found: dict[str, xr.Dataset], file: Path, *, beside: dict[str, xr.Dataset] | None = None
) -> None:
    """Draw layers, potential, charge and capacitance; the oracle's, or the students' beside it."""
    import matplotlib.pyplot as plt

    shown = {"Fumi-Tosi": found} if beside is None else {"students": found, "Fumi-Tosi": beside}

    figure, axes = plt.subplots(2, 2, figsize=(9.5, 7), layout="constrained")
    for style, (who, found) in zip(("-", "--"), shown.items(), strict=False):
        profiles = {name: one for name, one in found.items() if name.startswith("/profile")}
        for number, one in enumerate(profiles.values()):
            label = f"{-float(one['voltage']):+.2f} V" if style == "-" else None
            axes[0, 1].plot(
                one["z"] * 1e10, one["potential"], style, color=f"C{number}", lw=1, label=label
            )
        last = profiles[max(name for name in profiles if name.startswith("/profile/+"))]
        for number, ion in enumerate(last["species"].values):
            axes[0, 0].plot(
                last["z"] * 1e10,
                last["number_density"].sel(species=ion) * 1e-30,
                style,
                color=f"C{number}",
                label=f"{ion}, {who}",
            )
        for number, method in enumerate(("slope", "fluctuation")):
            one = found[f"/capacitance/{method}"]
            axes[1, 1].errorbar(
                one["potential"],
                100 * one["differential_capacitance"],
                100 * one["differential_capacitance_std"],
                fmt="o" + style,
                color=f"C{number}",
                label=f"{method}, {who}",
            )
        slope = found["/capacitance/slope"]
        axes[1, 0].errorbar(
            slope["potential"],
            100 * slope["surface_charge"],
            100 * slope["surface_charge_std"],
            fmt="o" + style,
            label=who,
        )
    axes[0, 0].set(xlabel="z (Å)", ylabel="number density (Å$^{-3}$)")
    axes[0, 1].set(xlabel="z (Å)", ylabel="potential against the middle (V)")
    axes[1, 0].set(xlabel="electrode against the middle (V)", ylabel="charge (µC cm$^{-2}$)")
    axes[1, 1].set(xlabel="electrode against the middle (V)", ylabel="capacitance (µF cm$^{-2}$)")
    for one in axes.ravel():
        one.legend(fontsize=7)
    figure.savefig(file, dpi=150)


def table(found: dict[str, xr.Dataset]) -> None:
    """Print the capacitances."""
    for method in ("slope", "fluctuation"):
        one = found[f"/capacitance/{method}"]
        ends = ("", "_std", "_model_std", "_gap_std")
        columns = [
            f"{name}{end}"
            for name in ("cell_capacitance", "differential_capacitance", "surface_charge")
            for end in ends
            if f"{name}{end}" in one
        ]
        print(method, one[columns].to_dataframe().round(4).to_string(), sep="\n")


def kept(file: Path, group: str) -> dict[str, xr.Dataset]:
    """Read the results of a group back."""
    with xr.open_datatree(file, engine="h5netcdf") as tree:
        return {
            leaf.path.removeprefix(group): leaf.to_dataset().load()
            for leaf in tree.leaves
            if leaf.path.startswith(group + "/")
        }


def main() -> None:
    """Run, write and print; or draw what was written."""
    words = sys.argv[1:]
    if words[:1] == ["draw"]:
        oracle, students = kept(HERE / "molten_salt.nc", ""), kept(HERE / "learnt.nc", "/committee")
        draw(students, HERE / "molten_salt_capacitor.png", beside=oracle)
        return
    torch.set_num_threads(1)
    members = MEMBERS if words[:1] == ["learnt"] else (None,)
    length = float(words[-1]) if words and words[-1] != "learnt" else 8.0
    runs, models = [], []
    for member in members:
        saved = HERE / f"run_{member or 'oracle'}.pt"
        seen, model = run(length, member=member, checkpoint=saved, seed=member or 1)
        runs.append(results(seen, model))
        models.append(model)
    if len(runs) == 1:
        keep({"": runs[0]}, HERE / "molten_salt.nc", models, picoseconds=length)
        table(runs[0])
        return
    throughout = together(runs)
    groups = {"/committee": ended(throughout, models[0])}
    groups["/medium_throughout"] = {
        name: found for name, found in throughout.items() if name.startswith("/capacitance")
    }
    for member, found in zip(members, runs, strict=True):
        groups[f"/member_{member}"] = {
            name: one for name, one in found.items() if name.startswith("/capacitance")
        }
    keep(groups, HERE / "learnt.nc", models, picoseconds=length)
    table(groups["/committee"])


if __name__ == "__main__":
    main()
