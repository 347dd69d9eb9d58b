"""The summary, the figures and the report page."""
