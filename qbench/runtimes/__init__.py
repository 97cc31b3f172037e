"""Runners: one protocol over the runtimes that execute a model."""
