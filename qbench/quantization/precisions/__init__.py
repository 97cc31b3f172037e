"""The precisions beside static INT8, each written from a float model by one file."""
