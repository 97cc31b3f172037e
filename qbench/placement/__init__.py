"""Decide which tensors are quantized for which target. Pure: graph in, plan out.

Placement comes before calibration: only tensors that some target will quantize are observed.
"""
