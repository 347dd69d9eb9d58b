"""Stages, flows and tracking around `gee_core`."""
