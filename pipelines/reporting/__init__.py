"""The summary, the figures and the report page."""

from pathlib import Path

TEMPLATES = Path(__file__).parent / "templates"
