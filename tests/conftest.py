"""Settings that must stand before any numerical library, and how a test loads an example."""

import importlib.util
import os
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture(scope="session")
def example():
    """Load a script of an example by the names of its folder and, where not `study`, its own."""

    def load(folder, script="study"):
        spec = importlib.util.spec_from_file_location(folder, EXAMPLES / folder / f"{script}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load
