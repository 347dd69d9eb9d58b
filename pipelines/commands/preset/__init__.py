"""The command `gee preset`: ready-made params.yaml."""
