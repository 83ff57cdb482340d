"""The door to dolfinx: one sentence when something is missing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from continuum.finite_elements import require

ROOT = Path(__file__).parents[2]


def _python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_continuum_and_its_inputs_import_without_dolfinx():
    code = (
        "import sys; sys.modules['dolfinx'] = None; sys.modules['mpi4py'] = None\n"
        "import continuum, continuum.inputs, continuum.laws, continuum.outcome, continuum.schema"
    )
    done = _python(code)
    assert done.returncode == 0, done.stderr


def test_missing_dolfinx_is_one_sentence():
    done = _python("import sys; sys.modules['dolfinx'] = None; import continuum.conduction")
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: The finite-element solvers need dolfinx 0.11 or newer")
    assert "extra 'fem'" in last


def test_missing_compiler_is_one_sentence(tmp_path):
    code = (
        "from continuum.conduction import _slab\n"
        "from continuum.outcome import SolverError\n"
        "try:\n    _slab(8)\nexcept SolverError as error:\n    print('said:', error)\n"
    )
    done = _python(code, PATH="", CC="no-such-compiler", XDG_CACHE_HOME=str(tmp_path))
    assert "said: A finite-element form must be compiled, but no C compiler" in done.stdout, done


def test_old_and_complex_builds_are_refused_together():
    require("0.11.0.post0", np.float64)
    require("1.0.0", np.float64)
    with pytest.raises(ImportError, match="0.9.0.*complex128"):
        require("0.9.0", np.complex128)


def test_torch_and_h5py_keep_their_own_libraries_after_dolfinx_was_loaded():
    # with numba there, torch crashed in PETSc's BLAS and h5py found PETSc's HDF5
    code = (
        "import continuum.finite_elements, sys\n"
        "assert sys.modules.get('numba', 'away') is not None\n"
        "import h5py, torch\n"
        "a = torch.rand(8, 50, 60, dtype=torch.float64)\n"
        "b = torch.rand(8, 60, 70, dtype=torch.float64)\n"
        "assert torch.allclose(a @ b, torch.stack([x @ y for x, y in zip(a, b)]))"
    )
    done = _python(code)
    assert done.returncode == 0, (done.returncode, done.stderr)
