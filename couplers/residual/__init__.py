"""The residual corrector: what a porous-electrode model's voltage has and SPMe's lacks."""
