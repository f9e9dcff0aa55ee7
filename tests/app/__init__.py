"""The composition root: real backends in a folder of their own, no network."""
