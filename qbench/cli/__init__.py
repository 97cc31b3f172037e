"""The command line: one file per command; parse, one library call, render."""
