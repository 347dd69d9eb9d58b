"""What runs tell MLflow: written here first, then there. `tracker` is what stages see; only `mlflow_writer` imports mlflow."""
