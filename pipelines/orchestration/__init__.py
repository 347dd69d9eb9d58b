"""The pipeline as a Prefect flow, and how a killed one is cleaned up."""
