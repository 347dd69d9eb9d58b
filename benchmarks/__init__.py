"""One script per claim about speed or memory: `python -m benchmarks.NAME [--json]`."""
