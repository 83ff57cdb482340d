"""Trajectories and MSD files of other codes end in the same estimators and verdicts."""

from __future__ import annotations

import sys

import ase
import ase.io
import numpy as np
import pytest
import torch
import torch_sim as ts

from atomistic.observables.curves import curve_covariance, self_diffusivity_of_curves
from atomistic.observables.displacements import mean_squared_displacement, observe
from atomistic.observables.self_diffusion import self_diffusivity
from atomistic.trajectories import frames, observe_files, read_msd
from tests.atomistic.synthetic import brownian, caged_hopping, rattling, trajectory

SYMBOLS = ["Li"] * 4 + ["Cl"] * 4
SKEW = np.array([[9.0, 0.0, 0.0], [3.0, 8.0, 0.0], [-2.0, 2.5, 10.0]])
FRAMES = 120


@pytest.fixture(scope="module")
def walked():
    """Unwrapped positions (frame, atom, xyz), Å, that cross the faces many times."""
    rng = np.random.default_rng(0)
    lithium = brownian(rng, (1, FRAMES, 4), diffusivity=2.0)[0] + rng.random((4, 3)) * 5
    return np.concatenate([lithium, np.full((FRAMES, 4, 3), 0.5)], axis=1)


def wrapped(position, cell=SKEW):
    return (position @ np.linalg.inv(cell) % 1.0) @ cell


def written_extxyz(folder, position):
    path = folder / "run.extxyz"
    ase.io.write(path, [ase.Atoms(SYMBOLS, one, cell=SKEW, pbc=True) for one in wrapped(position)])
    return path, {}


def written_lammps(folder, position, skip=()):
    """A text dump whose atoms stand in another order in every frame."""
    path = folder / "run.lammpstrj"
    rng = np.random.default_rng(1)
    xy, xz, yz = SKEW[1, 0], SKEW[2, 0], SKEW[2, 1]
    bounds = [
        (min(0, xy, xz, xy + xz), SKEW[0, 0] + max(0, xy, xz, xy + xz), xy),
        (min(0, yz), SKEW[1, 1] + max(0, yz), xz),
        (0.0, SKEW[2, 2], yz),
    ]
    with path.open("w") as file:
        for index, one in enumerate(wrapped(position)):
            if index in skip:
                continue
            file.write(f"ITEM: TIMESTEP\n{index * 25}\nITEM: NUMBER OF ATOMS\n8\n")
            file.write("ITEM: BOX BOUNDS xy xz yz pp pp pp\n")
            file.writelines(f"{low:.10f} {high:.10f} {tilt:.10f}\n" for low, high, tilt in bounds)
            file.write("ITEM: ATOMS id type x y z\n")
            for atom in rng.permutation(8):
                kind = 1 if SYMBOLS[atom] == "Li" else 2
                numbers = " ".join(f"{value:.8f}" for value in one[atom])
                file.write(f"{atom + 1} {kind} {numbers}\n")
    return path, {"elements": ["Li", "Cl"]}


def written_chemfiles(folder, position, ending=".xtc"):
    chemfiles = pytest.importorskip("chemfiles")
    path, names = folder / f"run{ending}", folder / "run.pdb"
    a, b, c, alpha, beta, gamma = ase.Atoms(cell=SKEW).cell.cellpar()
    with chemfiles.Trajectory(str(path), "w") as file:
        for index, one in enumerate(wrapped(position)):
            frame = chemfiles.Frame()
            frame.step = index * 10
            frame.cell = chemfiles.UnitCell([a, b, c], [alpha, beta, gamma])
            for symbol, place in zip(SYMBOLS, one, strict=True):
                frame.add_atom(chemfiles.Atom(symbol), list(place))
            file.write(frame)
            if index == 0:
                with chemfiles.Trajectory(str(names), "w") as other:
                    other.write(frame)
    return path, {"topology": names}


def written_torch_sim(folder, position):
    path = folder / "run.h5"
    first = ase.Atoms(SYMBOLS, position[0], cell=SKEW, pbc=True)
    state = ts.io.atoms_to_state([first], "cpu", torch.float64)
    with ts.TorchSimTrajectory(path, mode="w", coerce_to_float32=False) as file:
        for index, one in enumerate(wrapped(position)):
            state.positions = torch.as_tensor(one)
            file.write_state(state, index * 5, variable_cell=index == 0 and False)
    return path, {}


WRITERS = {
    "extxyz": written_extxyz,
    "lammps": written_lammps,
    "xtc": written_chemfiles,
    "trr": lambda folder, position: written_chemfiles(folder, position, ".trr"),
    "torch-sim": written_torch_sim,
}


@pytest.mark.parametrize("kind", WRITERS)
def test_every_format_gives_the_displacements_of_the_unwrapped_walk(kind, walked, tmp_path):
    path, options = WRITERS[kind](tmp_path, walked)
    seen = observe_files([path], interval=25.0, temperature=500.0, host=["Cl"], **options)
    for lag in (1, 7, 16):
        found = seen["mean_squared_displacement"].sel(lag=lag * 25e-15, method="nearest")
        assert float(found["lag"]) == pytest.approx(lag * 25e-15, rel=1e-9, abs=0)
        expected = mean_squared_displacement(walked[None], np.array([lag]))[0, :4, 0] * 1e-20
        # xtc keeps a hundredth of an ångström
        np.testing.assert_allclose(found.values[0, 0, :4], expected, rtol=2e-2)
    assert seen.attrs["frame"] == "lab"


def test_frames_can_be_chosen(walked, tmp_path):
    path, options = written_lammps(tmp_path, walked)
    every = list(frames(path, pattern="10:40:3", **options))
    assert len(every) == 10
    assert [one.step for one in every[:2]] == [250, 325]
    np.testing.assert_allclose(every[0].position, wrapped(walked)[10], atol=1e-6)
    np.testing.assert_allclose(every[0].cell, SKEW, atol=1e-6)


def test_a_users_file_is_judged_by_the_same_rules(tmp_path):
    rng = np.random.default_rng(2)
    still = rattling(rng, (1, 300, 4), 0.4)
    both = np.concatenate([still, np.zeros_like(still)], axis=2)[0] + 1.0
    path, _ = written_extxyz(tmp_path, both)
    seen = observe_files([path], interval=25.0, temperature=500.0, host=["Cl"])
    found = self_diffusivity(seen, chosen=["Li"])
    assert not found["diffusive"].any()
    assert "too few hops" in str(found["verdict"].values[0, 0])


def gpumd(path, position, interval=25.0, lags=300):
    """Write the averaged curve as GPUMD does: time, three MSD columns, three of the SDC."""
    rows = [[0.0] * 7]
    for lag in range(1, lags):
        step = position[:, lag:] - position[:, :-lag]
        rows.append([lag * interval / 1e3, *np.square(step).mean((0, 1, 2)), 0.0, 0.0, 0.0])
    np.savetxt(path, rows)


def test_gpumds_curve_agrees_with_its_trajectory_and_covers(tmp_path):
    rng = np.random.default_rng(3)
    hits, ratio = 0, []
    for repeat in range(12):
        position, _ = caged_hopping(rng, (1, 900, 32), rate=2.0, jump=3.0, cage=0.2, radius=0.5)
        truth = caged_hopping(rng, (1, 2, 1), rate=2.0, jump=3.0)[1] * 1e-8
        gpumd(tmp_path / "msd.out", position)
        curve = read_msd(tmp_path / "msd.out")
        found = self_diffusivity_of_curves(
            curve["mean_squared_displacement"].values[0].sum(0),
            curve["lag"].values,
            particles=32,
            duration=900 * 25e-15,
            seed=repeat,
        )
        assert found["diffusive"].item(), found["verdict"].item()
        low, high = np.percentile(found["self_diffusivity_draw"], [2.5, 97.5])
        hits += low <= truth <= high
        ratio.append(found["self_diffusivity"].item() / truth)
    assert hits >= 10
    assert np.mean(ratio) == pytest.approx(1.0, abs=0.08)
    own = self_diffusivity(
        observe(
            trajectory(
                [np.concatenate([position, np.zeros_like(position)], axis=2)],
                symbols=["Li"] * 32 + ["Cl"] * 32, temperatures=[800.0], length=1e4,
            ),
            host=["Cl"],
        ),
        chosen=["Li"],
    )  # fmt: skip
    apart = abs(own["self_diffusivity"].item() - found["self_diffusivity"].item())
    assert apart < own["self_diffusivity_std"].item()


def test_covariance_is_that_of_simulated_curves():
    rng = np.random.default_rng(4)
    lags = np.array([2, 5, 12, 30])
    walks = brownian(rng, (600, 400, 4), diffusivity=1.0)
    curves = mean_squared_displacement(walks, lags).mean(1)
    theory = curve_covariance(6 * lags * 0.025, lags * 1.0, particles=4, duration=400.0)
    np.testing.assert_allclose(np.cov(curves.T), theory, rtol=0.3)


def test_a_curve_that_only_rattles_is_refused():
    lag = np.arange(1, 200) * 1e-13
    flat = 1e-20 * (1 - np.exp(-lag / 3e-13))
    found = self_diffusivity_of_curves(flat, lag, particles=64, duration=4e-11, label="Li")
    assert not found["diffusive"].item()
    assert "longer" in found["verdict"].item()
    assert np.isnan(found["self_diffusivity"].item())


def test_bad_input_gets_one_sentence(tmp_path, walked, monkeypatch):
    def seen(path, **options):
        return observe_files([path], interval=25.0, temperature=300.0, **options)

    with pytest.raises(ValueError, match="does not exist"):
        seen(tmp_path / "absent.xyz")
    with pytest.raises(ValueError, match=r"absent\.out does not exist\.$"):
        read_msd(tmp_path / "absent.out")
    (tmp_path / "letter.txt").write_text("Dear all")
    with pytest.raises(ValueError, match=r"letter\.txt cannot be read by ASE"):
        seen(tmp_path / "letter.txt")
    with pytest.raises(ValueError, match="no path"):
        observe_files([], interval=1.0, temperature=300.0)
    lammps, options = written_lammps(tmp_path, walked, skip=(50,))
    with pytest.raises(ValueError, match="25 to 50 steps apart"):
        seen(lammps, **options)
    with pytest.raises(ValueError, match="say elements"):
        seen(lammps)
    with pytest.raises(ValueError, match="first:last:step"):
        seen(lammps, pattern="-5:", **options)
    bare = tmp_path / "bare.xyz"
    ase.io.write(bare, [ase.Atoms("Li", [[0, 0, 0]])] * 3)
    with pytest.raises(ValueError, match="has no cell"):
        seen(bare)
    broken = tmp_path / "broken.extxyz"
    atoms = [ase.Atoms("Li", [[x, 0, 0]], cell=[9] * 3, pbc=True) for x in (0.0, np.nan)]
    ase.io.write(broken, atoms)
    with pytest.raises(ValueError, match="frame 1 of .* is not finite"):
        seen(broken)
    ase.io.write(broken, atoms[:1])
    with pytest.raises(ValueError, match="fewer than two frames"):
        seen(broken)
    (tmp_path / "run.xtc").touch()
    with pytest.raises(ValueError, match="does not name its atoms"):
        seen(tmp_path / "run.xtc")
    monkeypatch.setitem(sys.modules, "chemfiles", None)
    with pytest.raises(ImportError, match="needs the package chemfiles"):
        seen(tmp_path / "run.xtc", topology="x.pdb")
    (tmp_path / "msd.out").write_text("1 2 3\n4 5 6\n")
    with pytest.raises(ValueError, match="2 rows of 3 columns"):
        read_msd(tmp_path / "msd.out")
    with pytest.raises(ValueError, match=r"particles is 0.*shorter than the longest lag"):
        self_diffusivity_of_curves(np.ones(9), np.arange(1.0, 10), particles=0, duration=1.0)
