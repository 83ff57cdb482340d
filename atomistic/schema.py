"""What this package hands over: the Datasets' variables, dims, units and convention words.

A schema is a plain table. ``variables`` maps a name to its dims and units and, where they apply,
to physical bounds and to ``estimate: True``, which asks for ``<name>_std`` of the same dims (nan if
unknown, never 0); ``<name>_draw`` with a trailing ``draw`` dim carries the posterior where there is
one. ``optional: True`` lets a variable be absent, ``missing: True`` lets its values be nan.
``attrs`` maps a convention word to its allowed values. `couplers.contract.check` is the gate.
"""

TRAJECTORY = {
    "name": "TRAJECTORY",
    "variables": {
        "temperature": {"dims": ("condition",), "units": "K", "above": 0.0},
        "position": {
            "dims": ("condition", "replica", "frame", "atom", "xyz"),
            "units": "m",
            "long_name": "unwrapped atomic position, centre of mass at rest",
        },
        "cell": {"dims": ("condition", "replica", "xyz", "partner"), "units": "m"},
        "time": {"dims": ("frame",), "units": "s"},
        "symbol": {"dims": ("atom",), "units": None},
        "potential_name": {"dims": ("replica",), "units": None},
    },
    "attrs": {},
}

TRANSPORT = {
    "name": "TRANSPORT",
    "variables": {
        "temperature": {"dims": ("condition",), "units": "K", "above": 0.0},
        "charge_number": {"dims": ("species",), "units": "1"},
        "number_density": {"dims": ("condition", "species"), "units": "m-3", "above": 0.0},
        "self_diffusivity": {
            "dims": ("condition", "species"),
            "units": "m2 s-1",
            "above": 0.0,
            "estimate": True,
        },
        "conductivity": {
            "dims": ("condition",),
            "units": "S m-1",
            "above": 0.0,
            "estimate": True,
        },
        "nernst_einstein_conductivity": {
            "dims": ("condition",),
            "units": "S m-1",
            "above": 0.0,
            "estimate": True,
        },
        "transference_number": {
            "dims": ("condition",),
            "units": "1",
            "estimate": True,
            "optional": True,
        },
        "thermodynamic_factor": {
            "dims": ("condition",),
            "units": "1",
            "above": 0.0,
            "estimate": True,
            "optional": True,
        },
        "salt_diffusivity": {
            "dims": ("condition",),
            "units": "m2 s-1",
            "above": 0.0,
            "estimate": True,
            "optional": True,
        },
        "salt_concentration": {
            "dims": ("condition",),
            "units": "mol m-3",
            "above": 0.0,
            "optional": True,
        },
        "onsager": {
            "dims": ("condition", "species", "partner"),
            "units": "mol2 J-1 m-1 s-1",
            "estimate": True,
            "optional": True,
        },
        "viscosity": {
            "dims": ("condition",),
            "units": "Pa s",
            "above": 0.0,
            "estimate": True,
            "optional": True,
        },
        "box_length": {"dims": ("condition",), "units": "m", "above": 0.0},
        "diffusive": {"dims": ("condition", "species"), "units": None},
        "verdict": {"dims": ("condition", "species"), "units": None},
    },
    "attrs": {
        "frame": ("solvent", "mass", "volume", "lab"),
        "finite_size_correction": ("none", "Yeh-Hummer"),
    },
}
