"""What is remembered of pools."""
