"""The embedded demo: a small classifier and a generator of labelled images for it."""
