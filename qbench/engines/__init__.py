"""Build, describe and audit TensorRT engines."""
