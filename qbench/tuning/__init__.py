"""Tuning: the fewest float nodes with which a quantized model meets an accuracy budget."""
