"""Accuracy tasks and similarity measures."""
