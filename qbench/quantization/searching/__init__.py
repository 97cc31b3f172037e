"""Search the INT8 choice that costs the least accuracy: judge, probe, refine, free, round."""
