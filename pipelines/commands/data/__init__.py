"""The commands `gee data …`."""
