"""How documents, tables and progress look in a terminal."""
