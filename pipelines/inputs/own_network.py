"""What a run takes from `network.name`: the entry of the table."""

import hashlib

from gee_core.zoo import NETWORKS


def network_digest(name: str) -> str:
    """A checksum of what determines the network ``name``: its entry in the table, and no other."""
    return hashlib.sha256(repr(NETWORKS[name]).encode()).hexdigest()
