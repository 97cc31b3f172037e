"""Graph passes, one per file, each a function on an `onnx_ir.Model`."""
