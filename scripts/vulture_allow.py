"""Names that vulture takes for dead code although somebody outside this code uses them. One line each, with who."""
