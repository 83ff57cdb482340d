r"""Molten NaCl at 1100 K: what 8 x 200 ps of 216 ions say about it, and with what certainty.

    python examples/molten_salt_transport/study.py     # 3 s on one core

The runs (potential of Fumi and Tosi, Born-Mayer-Huggins pairs and Ewald sums, made by
``benchmarks/nacl_trajectories.py``) are kept beside this script as what their observers saw: mean
squared displacements of every ion and a thinned track, 2 MB (of the whole track the benchmark
`transport_nacl` has the conductivity 346 ± 12 S/m). From these follow the
self-diffusivities, to infinite size by Yeh and Hummer, the conductivity, and the transference
number about the centre of mass, which for two ions is a ratio of masses and nothing else:

.. math:: t_\mathrm{Na} = \frac{m_\mathrm{Cl}}{m_\mathrm{Na} + m_\mathrm{Cl}} = 0.6066
"""

from __future__ import annotations

from pathlib import Path

import xarray as xr

from atomistic.observables.finite_size import yeh_hummer
from atomistic.observables.transport import transport
from atomistic.units import mass

RECORD = Path(__file__).parent / "nacl_1100K.nc"
CHARGES = {"Na": 1, "Cl": -1}
PUBLISHED = (353.0, 4.0)  # S/m, of this potential: STACIE's documentation
VISCOSITY = (0.98e-3, 0.06e-3)  # Pa s, Green-Kubo, same runs


def main() -> xr.Dataset:
    """Estimate everything, print it, and return it."""
    seen = xr.load_dataset(RECORD, engine="h5netcdf")
    found = transport(seen, charges=CHARGES, mobile=["Na", "Cl"], draws=1000)
    corrected = yeh_hummer(found, viscosity=VISCOSITY[0], viscosity_std=VISCOSITY[1])
    for name in CHARGES:
        print(f"{name}: {found['verdict'].sel(species=name).item()}")
        for label, data in (("in the box", found), ("infinite", corrected)):
            value, error = (
                data[key].sel(species=name).item() * 1e9
                for key in ("self_diffusivity", "self_diffusivity_std")
            )
            print(f"  D {label:10s} {value:.2f} +- {error:.2f}  1e-9 m2/s")
    for key, label, units in (
        ("conductivity", "conductivity", "S/m"),
        ("nernst_einstein_conductivity", "Nernst-Einstein", "S/m"),
        ("haven_ratio", "Haven ratio", ""),
    ):
        value, error = found[key].item(), found[f"{key}_std"].item()
        print(f"{label}: {value:.4g} +- {error:.2g} {units}")
    print(f"  published for this potential: {PUBLISHED[0]:.0f} +- {PUBLISHED[1]:.0f} S/m")
    share = mass("Cl") / (mass("Na") + mass("Cl"))
    print(f"transference number: {found['transference_number'].item():.6f} (masses: {share:.6f})")
    return corrected


if __name__ == "__main__":
    main()
