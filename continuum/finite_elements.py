"""The one door to dolfinx: import order, version, scalar type and compiler are checked here.

Other modules take ``MPI``, ``PETSc``, ``basix``, ``fem``, ``mesh`` and ``ufl`` from this one, and
nothing else in the package imports them.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import sysconfig
from collections.abc import Iterator
from typing import Any

import numpy as np

from continuum.outcome import SolverError

OLDEST_DOLFINX = (0, 11)


@contextlib.contextmanager
def _without(package: str) -> Iterator[None]:
    """Hide a package from what is imported meanwhile."""
    kept = sys.modules.get(package)
    sys.modules[package] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[package]
        if kept is not None:
            sys.modules[package] = kept


try:
    # isort: off
    import mpi4py.MPI  # first: everything loaded later must find this MPI

    # isort: on
    import basix.ufl

    # to serve numba, dolfinx makes the libraries that came with PETSc everybody's: a torch loaded
    # later would take its batched products from their BLAS and crash, an h5py their HDF5
    with _without("numba"):
        import dolfinx.fem.petsc
    import dolfinx.mesh
    import petsc4py.PETSc
    import ufl as _ufl
except ImportError as error:
    raise ImportError(
        "The finite-element solvers need dolfinx "
        f"{OLDEST_DOLFINX[0]}.{OLDEST_DOLFINX[1]} or newer with PETSc, which did not import "
        f"({error}); install the extra 'fem' of this project, or fenics-dolfinx from conda-forge."
    ) from error

# the stubs of these packages are partial: their objects pass through this door untyped
MPI: Any = mpi4py.MPI
PETSc: Any = petsc4py.PETSc
fem: Any = dolfinx.fem
mesh: Any = dolfinx.mesh
ufl: Any = _ufl

__all__ = [
    "MPI",
    "PETSc",
    "basix",
    "compile_form",
    "compiler",
    "fem",
    "mesh",
    "require",
    "ufl",
]


def require(version: str, scalar: Any) -> None:
    """Refuse a dolfinx that is too old or whose PETSc counts in complex numbers.

    Parameters
    ----------
    version : str
        Version of dolfinx, as it states it.
    scalar : type
        Scalar type of PETSc.

    Raises
    ------
    ImportError
        Lists every fault, with what to install instead.
    """
    faults = []
    if tuple(int(part) for part in version.split(".")[:2]) < OLDEST_DOLFINX:
        faults.append(
            f"dolfinx is {version}, but {OLDEST_DOLFINX[0]}.{OLDEST_DOLFINX[1]} or newer is needed"
        )
    if not np.issubdtype(scalar, np.floating):
        faults.append(
            f"PETSc has scalars of type {np.dtype(scalar)}, but real ones are needed "
            "(dolfinx-solver-real, or fenics-dolfinx with petsc=*=real*)"
        )
    if faults:
        raise ImportError("; ".join(faults) + ".")


require(dolfinx.__version__, PETSc.ScalarType)
# PETSc would abort the whole program on a closed pipe, as in ``multiscale ... | head``
PETSc.Sys.popSignalHandler()


def compiler() -> str | None:
    """Path of the C compiler that new forms are compiled with, or None if there is none."""
    command = os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc"
    return shutil.which(command.split()[0])


def compile_form(form: Any) -> Any:
    """Compile a UFL form, or a nested list of forms; a form seen before comes from the cache.

    Raises
    ------
    SolverError
        If the form is new and this machine has no C compiler.
    """
    try:
        # two processes may meet on one form: wait for the other's compiler on a busy machine
        return fem.form(form, jit_options={"timeout": 180})
    except Exception as error:
        if compiler() is None:
            raise SolverError(
                "A finite-element form must be compiled, but no C compiler was found; install "
                "gcc or clang, or name one in the environment variable CC."
            ) from error
        raise
