"""Several processes give what one gives."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[2]
SCRIPT = """
import sys
import numpy as np
from continuum import nernst_planck, poisson_boltzmann
from continuum.finite_elements import MPI
from continuum.impedance import spectrum
from continuum.inputs import Solution, Species, Wall
from continuum.meshes import block, graded

salt = Solution((Species("Na", 1, 10.0), Species("Cl", -1, 10.0)))
domain = block([np.linspace(0, 1, 5), graded(12, left=1e-2, right=1e-2)])
rest = poisson_boltzmann.solve(
    salt,
    {"bottom": Wall(potential=0.1), "left": Wall(surface_charge=-1e-4)},
    domain=domain,
    length=10e-9,
)
cell = {"domain": domain, "length": 60e-9}
walls = {"bottom": Wall(potential=0.1, stern_capacitance=0.2), "top": Wall(potential=0.0)}
moved = nernst_planck.solve(salt, walls, times=[1e-9], tolerance=0.1, **cell)
swing = spectrum(salt, walls, frequencies=[1e3, 1e7], wall="bottom", **cell)
if MPI.COMM_WORLD.rank == 0:
    np.savez(
        sys.argv[1],
        position=rest.position,
        potential=rest.potential,
        capacitance=rest.differential_capacitance,
        charge=rest.surface_charge,
        concentration=moved.concentration,
        moved_charge=moved.surface_charge,
        resistance=swing.resistance,
        reactance=swing.reactance,
    )
"""


def test_two_processes_give_what_one_gives(tmp_path, monkeypatch):
    script = tmp_path / "run.py"
    script.write_text(SCRIPT)
    one, two = tmp_path / "1.npz", tmp_path / "2.npz"
    monkeypatch.setattr(sys, "argv", [str(script), str(one)])
    runpy.run_path(str(script))
    mpiexec = Path(sys.executable).parent / "mpiexec"
    done = subprocess.run(
        [mpiexec, "-n", "2", sys.executable, script, two],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    with np.load(one) as serial, np.load(two) as parallel:
        assert len(serial.files) == 8
        for name in serial.files:
            np.testing.assert_allclose(parallel[name], serial[name], rtol=1e-10, atol=1e-12)
