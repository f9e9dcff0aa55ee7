"""The image: what its Dockerfile says, and what comes of it where there is no engine."""
