"""Training of a network, as a candidate for a few epochs or in full."""
