"""Commands of `gee` with more than a few lines."""
