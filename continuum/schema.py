"""What this package hands over; the format is that of `atomistic.schema`.

``missing: True`` allows nan, which such a variable uses for "there is none".
"""

FIELD = {
    "name": "FIELD",
    "variables": {
        "x": {"dims": ("x",), "units": "m"},
        "concentration": {"dims": ("species", "x"), "units": "mol m-3", "above": 0.0},
        "potential": {"dims": ("x",), "units": "V"},
        "electrochemical_potential": {"dims": ("species", "x"), "units": "J mol-1"},
        "flux": {"dims": ("species",), "units": "mol m-2 s-1"},
    },
    "attrs": {"reference": None, "outcome": None},
}

DISCHARGE = {
    "name": "DISCHARGE",
    "variables": {
        "c_rate": {"dims": ("condition",), "units": "1", "above": 0.0},
        "current": {"dims": ("condition",), "units": "A"},
        "elapsed_time": {"dims": ("condition", "time"), "units": "s"},
        "capacity": {"dims": ("condition", "time"), "units": "A h"},
        "voltage": {"dims": ("condition", "draw", "time"), "units": "V", "missing": True},
        "discharged_capacity": {
            "dims": ("condition", "draw"),
            "units": "A h",
            "missing": True,
        },
        **{
            f"{end}_electrolyte_concentration": {
                "dims": ("condition", "draw"),
                "units": "mol m-3",
                "missing": True,
                "optional": True,
            }
            for end in ("lowest", "highest")
        },
        "outcome": {"dims": ("condition", "draw"), "units": None},
    },
    "attrs": {"sign": ("discharge positive",), "outcome": None},
}

IMPEDANCE = {
    "name": "IMPEDANCE",
    "variables": {
        "frequency": {"dims": ("frequency",), "units": "Hz", "above": 0.0},
        "resistance": {"dims": ("frequency",), "units": "ohm m2"},
        "reactance": {"dims": ("frequency",), "units": "ohm m2"},
    },
    "attrs": {"reference": None, "outcome": None},
}
