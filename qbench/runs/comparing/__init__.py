"""What changed between two runs, and how certain that is."""
