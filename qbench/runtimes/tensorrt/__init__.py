"""TensorRT engines: their files, their layers and what runs them, in either of its packages."""
