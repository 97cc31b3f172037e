"""The embedded demo: a small classifier, a small detector, and generators of labelled images.

Both models were trained from scratch on generated images alone, by `scripts/train_demo.py` and
`scripts/train_demo_detector.py` with their default options.
"""
