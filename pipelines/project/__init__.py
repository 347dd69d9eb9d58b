"""What the project is: its parameters, presets and files."""
