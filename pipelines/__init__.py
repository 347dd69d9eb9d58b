"""Stages, flows and tracking around `gee_core`."""

import logging
import os
from pathlib import Path

from pipelines.interruption import end_imports_in_one_line

if not Path(__file__).with_name("commands").is_dir():
    raise ImportError("gee-pipelines works in a clone only, and was installed without -e: pip install -e ./pipelines")

end_imports_in_one_line()
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # which ONNX Runtime keeps below the home folder, from its import on
logging.getLogger("torch._library.triton").setLevel(logging.ERROR)  # SpikingJelly asks for Triton, and does without
