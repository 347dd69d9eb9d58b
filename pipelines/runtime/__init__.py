"""What stages need to run: processes, resume folders, journals."""
