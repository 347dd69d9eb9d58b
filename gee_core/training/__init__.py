"""Training of a network, for a candidate's proxy and in full."""
