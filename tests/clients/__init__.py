"""Other people's clients against the real command: SDKs in environments of their own, over real sockets."""
