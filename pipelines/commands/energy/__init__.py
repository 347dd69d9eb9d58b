"""The command `gee energy`: operations and theoretical energy of any network of SpikingJelly neurons."""
