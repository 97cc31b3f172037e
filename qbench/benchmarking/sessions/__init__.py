"""A candidate that is loaded, in this process or in one of its own, and how it is driven."""
