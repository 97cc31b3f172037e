"""The charts of the report, one kind per module; each returns None where there is nothing."""
