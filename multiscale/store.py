"""Results on disk: one folder a stage, named by what it depends on, and one file a study."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import platform
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

import xarray as xr

ENGINE: Final = "h5netcdf"
RESULT = "result.nc"


def digest(*parts: Any) -> str:
    """Return the SHA-256 of nested plain values, independent of the order of keys.

    Examples
    --------
    >>> digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    True
    """
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def encode(values: Mapping[str, Any]) -> str:
    """Return nested values as the one JSON text that an attr can hold."""
    return json.dumps(dict(values), default=str)


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def source_digest(modules: Iterable[str]) -> str:
    """Return the SHA-256 of the source of modules, and of packages with all they hold."""
    found = hashlib.sha256()
    for name in sorted(modules):
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None:
            raise ValueError(f"The module {name!r} was not found; its source has to be hashed.")
        origin = Path(spec.origin)
        files = sorted(origin.parent.rglob("*.py")) if origin.name == "__init__.py" else [origin]
        for path in files:
            found.update(f"{name} {path.relative_to(origin.parent)}\n".encode())
            found.update(path.read_bytes())
    return found.hexdigest()


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Return the installed version of each package, "absent" where there is none."""
    found = {}
    for name in packages:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "absent"
    return found


def commit() -> str:
    """Return the git commit of this source, with "+changes" if the tree differs, or "unknown"."""

    def git(*arguments: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(Path(__file__).parent), *arguments],
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.strip()

    try:
        head = git("rev-parse", "HEAD")
        return head + ("+changes" if git("status", "--porcelain") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def write(tree: xr.DataTree, path: Path) -> Path:
    """Write a tree as netCDF-4, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(path.name + ".part")
    encoding = {
        group.path: {
            str(name): {"zlib": True, "complevel": 4}
            for name, variable in group.data_vars.items()
            if variable.dtype.kind == "f" and variable.size > 1000
        }
        for group in tree.subtree
    }
    tree.to_netcdf(draft, engine=ENGINE, encoding=encoding)
    draft.replace(path)
    return path


def load(path: Path) -> xr.DataTree:
    """Read a tree into memory and close the file."""
    with xr.open_datatree(path, engine=ENGINE) as tree:
        return tree.load()


def provenance(tree: xr.DataTree) -> dict[str, Any]:
    """Read the provenance of a result, {} if it has none."""
    return json.loads(tree.attrs.get("provenance", "{}"))


def reuse_or_run(
    name: str,
    work: Callable[[], xr.DataTree],
    *,
    folder: Path,
    inputs: Mapping[str, Any],
    modules: Iterable[str],
    packages: Iterable[str],
) -> tuple[xr.DataTree, str, bool]:
    """Return the result of a stage: the stored one if nothing it depends on has changed.

    Parameters
    ----------
    name : str
        Name of the stage.
    work : callable
        Does the work; its tree is stored in ``folder/stages/<name>-<fingerprint>/result.nc``.
    folder : Path
        Folder of the study.
    inputs : mapping
        Plain values the result depends on; put the fingerprints of earlier stages among them.
    modules : iterable of str
        Our modules and packages whose source the result depends on.
    packages : iterable of str
        Installed packages whose version the result depends on.

    Returns
    -------
    tree : xarray.DataTree
        With one JSON text, the attr ``provenance``.
    fingerprint : str
        Hash of everything the result depends on.
    reused : bool
        Whether a stored result was taken.
    """
    installed = versions(packages)
    fingerprint = digest(name, dict(inputs), source_digest(modules), installed)
    path = folder / "stages" / f"{name}-{fingerprint[:12]}" / RESULT
    if path.is_file():
        tree = load(path)
        if provenance(tree).get("fingerprint") == fingerprint:
            return tree, fingerprint, True
    started = time.perf_counter()
    tree = work()
    tree.attrs["provenance"] = encode(
        {
            "stage": name,
            "fingerprint": fingerprint,
            "inputs": dict(inputs),
            "versions": {"python": platform.python_version(), **installed},
            "commit": commit(),
            "machine": platform.platform(),
            "wall_time_s": round(time.perf_counter() - started, 2),
        }
    )
    write(tree, path)
    return tree, fingerprint, False
