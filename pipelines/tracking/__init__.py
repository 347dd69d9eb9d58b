"""Tracking of runs in MLflow: stages use `tracker`, which writes to disk first.

mlflow itself is imported by `mlflow_client` and `mlflow_models`, and by `served_model`, which MLflow runs without this project.
"""
