"""Gather statistics of activations once; derive ranges of any method from them."""
