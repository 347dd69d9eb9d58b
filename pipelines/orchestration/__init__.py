"""The pipeline and studies as Prefect flows. Prefect reads prefect.toml of the project folder, in which every `gee` runs."""

import os

os.environ.setdefault("DO_NOT_TRACK", "true")  # which Prefect reads when it is imported, after this
