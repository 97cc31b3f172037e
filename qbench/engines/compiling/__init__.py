"""The process that compiles an engine: what it is asked, how it is watched, what it can do."""
