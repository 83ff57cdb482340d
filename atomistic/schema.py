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

# a layer of liquid at an electrode, at one charge or voltage; z may run either way
PROFILE = {
    "name": "PROFILE",
    "variables": {
        "z": {"dims": ("z",), "units": "m"},
        "temperature": {"dims": (), "units": "K", "above": 0.0},
        "charge_number": {"dims": ("species",), "units": "1"},
        "number_density": {"dims": ("species", "z"), "units": "m-3", "estimate": True},
        "charge_density": {"dims": ("z",), "units": "C m-3", "estimate": True},
        "potential": {"dims": ("z",), "units": "V", "estimate": True},
        "surface_charge": {"dims": (), "units": "C m-2", "estimate": True},
        "relative_permittivity": {
            "dims": ("z",),
            "units": "1",
            "above": 0.0,
            "estimate": True,
            "optional": True,
        },
    },
    "attrs": {"reference": None, "boundary": None, "electrode_control": None},
}

# of one electrode, whose potential is against what `reference` says
CAPACITANCE = {
    "name": "CAPACITANCE",
    "variables": {
        "potential": {"dims": ("potential",), "units": "V"},
        "differential_capacitance": {
            "dims": ("potential",),
            "units": "F m-2",
            "above": 0.0,
            "estimate": True,
        },
        "surface_charge": {"dims": ("potential",), "units": "C m-2", "estimate": True},
        "potential_of_zero_charge": {
            "dims": (),
            "units": "V",
            "estimate": True,
            "optional": True,
        },
    },
    "attrs": {"reference": None, "method": None},
}

# of a host that takes up an ion, and of its transfer; energies per mole of host formula units,
# `formation_energy` from the empty host and the metal of the ion, `barrier` of the reaction that
# `direction` names, at potentials against `reference`
ENERGETICS = {
    "name": "ENERGETICS",
    "variables": {
        "temperature": {"dims": (), "units": "K", "above": 0.0},
        "formation_energy": {
            "dims": ("stoichiometry",),
            "units": "J mol-1",
            "estimate": True,
            "optional": True,
        },
        "open_circuit_potential": {
            "dims": ("stoichiometry",),
            "units": "V",
            "estimate": True,
            "optional": True,
        },
        "solid_diffusivity": {
            "dims": ("stoichiometry",),
            "units": "m2 s-1",
            "above": 0.0,
            "estimate": True,
            "optional": True,
        },
        "energy": {"dims": ("image",), "units": "J mol-1", "estimate": True, "optional": True},
        "barrier": {
            "dims": ("potential",),
            "units": "J mol-1",
            "estimate": True,
            "optional": True,
        },
    },
    "attrs": {"reference": None, "direction": ("reduction", "oxidation", "none")},
}
