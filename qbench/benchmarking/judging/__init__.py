"""What candidates are fed, and what judges their accuracy for each task."""
