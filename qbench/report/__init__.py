"""What a run looks like: tables, charts and one HTML file."""
