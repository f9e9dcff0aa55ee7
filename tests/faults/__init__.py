"""Fault tools for tests over real sockets: a scripted upstream, a replaying one, a client, our server.

`upstream` runs the modes that `modes` names; `replay` serves recordings; `client` asks and leaves at any point;
`serving` starts Turnpike.
Nothing here imports `proxy`: what the tests know of the wire must not come from the code under test.
"""
