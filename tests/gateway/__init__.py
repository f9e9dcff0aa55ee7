"""The gateway over stubs: no socket, no clock that has to be waited for."""
