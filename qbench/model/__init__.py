"""Load, inspect and prepare ONNX models."""
