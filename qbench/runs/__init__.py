"""Benchmarks that were run: kept, compared and exported."""
