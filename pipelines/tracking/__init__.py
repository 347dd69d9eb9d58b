"""Tracking of runs in MLflow: stages use `tracker`, which writes to disk first; only `mlflow_client` imports mlflow."""
