"""What will keep TensorRT from building a model, said before anything is built.

Pure: a graph goes in, findings come out; TensorRT need not be installed.
"""
