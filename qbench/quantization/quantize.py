"""`qbench.quantize`: a float model and its calibration table in, a quantized model out."""

from dataclasses import replace
from pathlib import Path

from qbench.calibration.given import GivenRanges
from qbench.calibration.table import CalibrationTable
from qbench.model.load import Model, load
from qbench.model.save import check_output, needs_external_data, save
from qbench.quantization.by_precision import quantized_to
from qbench.quantization.options import Options, check_precision, options_for
from qbench.quantization.quantized import QuantizedModel
from qbench.quantization.tables import table_if_used


def quantize(
    model: Model | Path | str,
    *,
    target: str,
    precision: str = "int8",
    table: CalibrationTable | GivenRanges | Path | str | None = None,
    output: Path | str | None = None,
    options: Options | None = None,
) -> QuantizedModel:
    """Quantize a float ONNX model for `target`.

    Args:
        model: A float ONNX file, or one that is loaded.
        target: `cpu` or `tensorrt`.
        precision: `int8` or `fp8` (static Q/DQ; FP8 for `tensorrt`), `fp16`, `bf16` (`tensorrt`),
            `int4` or `weight-only` (INT8) weights, or `dynamic` (INT8 with scales found at run
            time, for transformers on `cpu`).
        table: Calibration table or its path; None looks in `calibration/` by the model's hash.
            FP16 takes one where there is one, to find tensors beyond its range. `int8` also takes
            the ranges of another tool; see `calibration.given.load_ranges`.
        output: Where to write the model; None keeps it in memory.
        options: How to quantize, of the type that `OPTIONS` names.

    Raises:
        ModelError: The model cannot be read, is quantized already, or has nothing to quantize.
        QuantizationError: It has no weights that the precision could hold.
        CalibrationError: There is no table, it was made from another model, or given ranges lack
            a tensor.
        UsageError: Target, precision or method is unknown, the target cannot do the precision, a
            pattern matches no node, given ranges have no use, or the output is the model itself.
        StorageError: The output cannot be written.
    """
    model = model if isinstance(model, Model) else load(model)
    model.check_float()
    check_precision(precision, target)
    options = options_for(precision, options)
    check_output(model, output)
    known = table_if_used(model, precision, table)
    result = quantized_to(model, target, precision, known, options)
    return result if output is None else _saved(result, Path(output))


def _saved(result: QuantizedModel, path: Path) -> QuantizedModel:
    save(result.ir, path, external=needs_external_data(result.source.ir))
    return replace(result, path=path)
