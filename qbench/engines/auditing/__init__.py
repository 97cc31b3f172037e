"""What an engine or a quantized model computes in, and whether that is enough INT8."""
