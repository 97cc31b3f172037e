"""Rules that a Q/DQ model must keep to run in INT8. Pure: graph in, findings out."""
