"""The command `gee compare`: several runs beside each other."""
