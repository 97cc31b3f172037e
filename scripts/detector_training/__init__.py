"""The network of the demo's detector, and what it is taught by."""
