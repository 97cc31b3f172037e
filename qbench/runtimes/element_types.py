"""Element types, in the words of ONNX Runtime, OpenVINO and TensorRT."""

import re
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np


class ElementType(NamedTuple):
    """An element type and its names.

    Attributes:
        dtype: Of numpy or ml_dtypes.
        computed: What computing in it is called: unsigned codes are computed with as signed ones.
        in_logs: In the logs of TensorRT; empty where it has no such type.
        words: Of the runtimes, in small letters.
    """

    dtype: Any
    computed: str
    in_logs: str
    words: tuple[str, ...]


_TYPES = (
    ElementType(np.float64, "fp64", "", ("double", "f64", "fp64")),
    ElementType(np.float32, "fp32", "Float", ("float", "f32", "fp32")),
    ElementType(np.float16, "fp16", "Half", ("float16", "f16", "fp16", "half")),
    ElementType(ml_dtypes.bfloat16, "bf16", "BFloat16", ("bfloat16", "bf16")),
    ElementType(ml_dtypes.float8_e4m3fn, "fp8", "FP8", ("float8e4m3fn", "f8e4m3", "fp8")),
    ElementType(ml_dtypes.float8_e5m2, "fp8", "", ("float8e5m2", "f8e5m2")),
    ElementType(ml_dtypes.float4_e2m1fn, "fp4", "FP4", ("float4e2m1", "f4e2m1", "fp4")),
    ElementType(np.int64, "int64", "Int64", ("int64", "i64")),
    ElementType(np.int32, "int32", "Int32", ("int32", "i32")),
    ElementType(np.int16, "int16", "", ("int16", "i16")),
    ElementType(np.int8, "int8", "Int8", ("int8", "i8")),
    ElementType(ml_dtypes.int4, "int4", "Int4", ("int4", "i4")),
    ElementType(np.uint64, "int64", "", ("uint64", "u64")),
    ElementType(np.uint32, "int32", "", ("uint32", "u32")),
    ElementType(np.uint16, "int16", "", ("uint16", "u16")),
    ElementType(np.uint8, "int8", "UInt8", ("uint8", "u8")),
    ElementType(ml_dtypes.uint4, "int4", "", ("uint4", "u4")),
    ElementType(np.bool_, "bool", "Bool", ("bool", "boolean")),
)
_BY_WORD = {word: found for found in _TYPES for word in found.words}
_WORD = re.compile(r"[a-z]+[a-z0-9]*")


def dtype_named(word: str) -> np.dtype[Any]:
    """Return the element type that a runtime calls `word`, `object` where it is none of numpy's."""
    return np.dtype(_BY_WORD[word].dtype if word in _BY_WORD else np.object_)


def type_in(text: str) -> ElementType | None:
    """Return the type that a text such as `Row major Int8 format` or `jit_avx2_FP32` names."""
    words = _WORD.findall(text.lower())
    return next((_BY_WORD[word] for word in words if word in _BY_WORD), None)
