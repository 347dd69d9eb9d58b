"""Genetic encoding: X and O in place of weights."""
