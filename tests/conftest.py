"""Settings that must stand before any numerical library is imported."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
