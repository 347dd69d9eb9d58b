"""Genetically encoded deep spiking networks: encoding, networks, evolution, training, measurements.

Start at ``gee_core.genome.encoding`` to encode a network of your own, at ``gee_core.model.network`` for the paper's.
"""
