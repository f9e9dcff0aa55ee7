"""The tests of Turnpike: the folders mirror `proxy/`, whole stories stand beside them."""
