"""What can be said on the command line and in `qbench.toml`, and how help lists it."""
