"""Files that a run may start from."""
