"""A fake of TensorRT's Python module, made from the API of a real version; it runs on a CPU."""

from fake_trt.api import Api, read_api, versions
from fake_trt.install import install
from fake_trt.module import fake_tensorrt

__all__ = ["Api", "fake_tensorrt", "install", "read_api", "versions"]
