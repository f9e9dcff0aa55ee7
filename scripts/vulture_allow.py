"""Names that vulture takes for dead code although somebody outside this code uses them. One line each, with who."""

_.disconnected  # uvicorn's request cycle, told by our protocol
_.force_exit  # uvicorn's server, told by our signal handler
_.handle_exit  # uvicorn calls it on a signal
_.model_config  # pydantic reads it
_.on_url  # httptools calls it
_.sig  # the signal uvicorn hands over
_.trace  # the third argument of every __exit__
