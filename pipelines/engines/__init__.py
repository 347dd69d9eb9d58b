"""Engines that run jobs: in this process, in worker processes of this machine, or on the workers of a dask scheduler."""
