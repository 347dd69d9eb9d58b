"""The paper's networks, genetically encoded or plain."""
