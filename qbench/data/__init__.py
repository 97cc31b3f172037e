"""Images and arrays in, batches out: sources, preprocessing recipes and labels."""
