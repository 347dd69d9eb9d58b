"""Trained networks that come with the package: ``ARCHITECTURE.DATA-CHECKSUM.safetensors``, int8 genes and a card each."""
