"""Time models against each other and say what the figures can bear."""
