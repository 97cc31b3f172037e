"""ONNX Runtime: models in files and in memory, whole and in parts, on any provider."""
