"""The pipeline as a Prefect flow, and the clean-up after a killed one."""
