"""CUDA as runners need it: one small protocol over cuda-bindings and pycuda."""
