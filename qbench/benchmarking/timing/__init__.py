"""Paired timing: a clock, blocks in random order, and rounds until intervals are narrow."""
