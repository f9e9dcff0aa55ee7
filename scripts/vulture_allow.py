"""Names that vulture takes for dead code although somebody outside this code uses them. One line each, with who."""

# Called or read by libraries

# Held, not read

# The tests' side of a port
ManualClock  # time that tests move by hand

# Recorded now, acted on by the circuit breaker and the look-up of costs when these come
UNRESOLVED
_.__cause__  # the interpreter prints it
_._closing  # keeps its task from being collected
_.abandon  # an owner that dies as a killed process does
_.consecutive_failures
_.critical  # structlog calls the writer by level
_.debug  # as critical
_.disconnected  # uvicorn's request cycle, told by our protocol
_.eof_received  # the event loop calls it
_.expect_100_continue  # uvicorn's protocol reads it
_.force_exit  # uvicorn's server, told by our signal handler
_.handle  # starlette calls it on the route that answers for no path
_.handle_exit  # uvicorn calls it on a signal
_.last_failure
_.last_failure_at_s
_.last_first_token_ms
_.model_config  # pydantic reads it
_.on_header  # httptools calls it
_.on_url  # httptools calls it
_.sig  # the signal uvicorn hands over
_.successes
_.trace  # the third argument of every __exit__
_.url_path_for  # starlette asks every route by name
abilities  # a codec that translates nothing needs none; its Protocol's parameter
_.waiting_for_100_continue  # uvicorn's request cycle reads it
