"""What stages need to run: settings, processes, locks, resume folders, journals, progress bars."""
