"""Tests of the simulated provider, over the interface every upstream keeps."""
