"""How results look to a reader: names, figures, columns, the HTML table, and what they bear."""
