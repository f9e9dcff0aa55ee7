"""Names that vulture takes for dead code although somebody outside this code uses them. One line each, with who."""

_.critical  # structlog calls the writer by level
_.debug  # structlog calls the writer by level
_.disconnected  # uvicorn's request cycle, told by our protocol
_.force_exit  # uvicorn's server, told by our signal handler
_.handle  # starlette calls it on the route that answers for no path
_.handle_exit  # uvicorn calls it on a signal
_.model_config  # pydantic reads it
_.on_url  # httptools calls it
_.sig  # the signal uvicorn hands over
_.trace  # the third argument of every __exit__
_.url_path_for  # starlette asks every route by name
