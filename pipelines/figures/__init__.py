"""The figures of the report, of studies and of MLflow, as SVG text or PNG."""
