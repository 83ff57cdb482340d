"""The house rules that a machine can check."""

import importlib
import os
import pkgutil
import re
import subprocess
import sys
import tomllib
from itertools import chain
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("atomistic", "continuum", "couplers", "multiscale")
HEAVY = {
    "torch",
    "torch_sim",
    "dolfinx",
    "pybamm",
    "mpi4py",
    "matplotlib",
    "sevenn",
    "ase",
    "scipy",
}


def python(code):
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_layers():
    from importlinter.cli import lint_imports

    before = Path.cwd()
    os.chdir(ROOT)
    try:
        assert lint_imports(no_cache=True) == 0
    finally:
        os.chdir(before)


@pytest.mark.parametrize("package", PACKAGES)
def test_import_of_a_package_is_light(package):
    loaded = python(f"import sys, {package}; print(*sys.modules)").split()
    assert not HEAVY & set(loaded)


def test_help_is_light():
    loaded = python(
        "import sys\n"
        "from multiscale.cli import app\n"
        "try:\n"
        "    app(['--help'])\n"
        "except SystemExit:\n"
        "    pass\n"
        "print('loaded:', *sys.modules)"
    )
    assert "Usage" in loaded
    modules = set(loaded.split("loaded:")[1].split())
    assert not (HEAVY | {"numpy", "xarray", "pydantic"}) & modules


def test_lock_holds_every_dependency_with_hashes_and_no_index():
    stated = tomllib.loads((ROOT / "pyproject.toml").read_text())
    project, extras = stated["project"], dict(stated["project"]["optional-dependencies"])
    lock = (ROOT / "requirements.lock").read_text()
    # of extras that cannot be installed together, the first
    for pair in stated["tool"]["uv"]["conflicts"]:
        for other in pair[1:]:
            del extras[other["extra"]]
    asked = [*project["dependencies"], *chain(*extras.values())]
    for requirement in asked:
        name = re.match(r"[\w.-]+", requirement)[0].lower()
        assert re.search(rf"^{re.escape(name)}==\S+", lock, re.MULTILINE), name
    pinned = re.findall(r"^(\S+)==[^\n]*(?:\\\n[^\n]*)*", lock, re.MULTILINE)
    blocks = re.split(r"^(?=\S+==)", lock, flags=re.MULTILINE)[1:]
    assert len(blocks) == len(pinned) > 50
    assert all("--hash=sha256:" in block for block in blocks)
    assert "://" not in lock


def test_python_version_is_the_one_that_is_asked_for():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["requires-python"] == f">={(ROOT / '.python-version').read_text().strip()}"


def test_what_readme_and_packages_point_to_exists():
    """Names, files and commands in README.md, names in the packages' docstrings."""
    readme = (ROOT / "README.md").read_text()
    names = set(re.findall(rf"`((?:{'|'.join(PACKAGES)})\.[\w.]+)[`(]", readme))
    for package in PACKAGES:
        said = importlib.import_module(package).__doc__
        names |= {f"{package}.{name}" for name in re.findall(r"`([a-z_]+(?:\.\w+)*)`", said)}
    assert len(names) > 40
    for name in sorted(names):
        pkgutil.resolve_name(name)
    paths = re.findall(r"[`(]((?:examples|benchmarks)/[\w./]+)", readme)
    assert len(paths) > 20
    assert [path for path in paths if not (ROOT / path).exists()] == []
    told = set(re.findall(r"`multiscale ([a-z-]+)", readme))
    app = importlib.import_module("multiscale.cli").app
    commands = {one.name or one.callback.__name__ for one in app.registered_commands}
    assert told <= commands
    assert len(told) > 4
