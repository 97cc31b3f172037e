"""Turn ranges into scales, place Q/DQ for a target, write the quantized model."""
