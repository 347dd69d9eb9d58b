"""Evolution of the initial wiring."""
