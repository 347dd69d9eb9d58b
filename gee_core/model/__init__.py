"""The paper's networks, genetic or plain."""
