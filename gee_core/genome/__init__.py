"""Genetic encoding: neurons' genes X and their interactions O in place of weights."""
