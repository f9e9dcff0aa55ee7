# Turnpike as an image: made from the locks in one stage, copied whole into another that installs nothing.
#
#   docker build -t turnpike .
#   docker run --read-only --tmpfs /tmp -v turnpike:/data -p 127.0.0.1:4000:4000 turnpike
#
# A routing table is mounted at /etc/turnpike/routes.yaml; without one see docs/operations.md.

FROM python:3.13.14-slim-bookworm AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 PIP_ONLY_BINARY=:all: PIP_QUIET=1
WORKDIR /src
# One environment makes, the other is shipped: what runs has no pip, and no package that only builds.
RUN python -m venv /opt/build \
 && python -m venv --without-pip /opt/turnpike
COPY requirements.lock requirements-build.lock ./
# Both locks are complete, so pip has nothing to resolve; the hashes are checked all the same.
RUN /opt/build/bin/python -m pip install --no-deps --no-compile --require-hashes --requirement requirements-build.lock \
 && /opt/build/bin/python -m pip --python /opt/turnpike/bin/python install --no-deps --compile --require-hashes \
        --requirement requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY config ./config
COPY proxy ./proxy
RUN /opt/build/bin/python -m pip wheel --no-deps --no-build-isolation --no-index --wheel-dir /opt/wheels . \
 && /opt/build/bin/python -m pip --python /opt/turnpike/bin/python install --no-deps --compile --no-index /opt/wheels/*.whl

FROM python:3.13.14-slim-bookworm
COPY --from=build /opt/turnpike /opt/turnpike
# A new volume takes the owner and the mode of the folder it is mounted on.
RUN install -d -m 0700 -o 10001 -g 10001 /data
ENV PATH=/opt/turnpike/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    TURNPIKE_DATA=/data \
    TURNPIKE_HOST=0.0.0.0 \
    TURNPIKE_PORT=4000
# The routing table is looked for in the working folder.
WORKDIR /etc/turnpike
USER 10001:10001
VOLUME /data
EXPOSE 4000
# The slim image has no curl. Straight to the port: a proxy that the environment names is not asked.
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s --retries=3 CMD ["python", "-c", \
    "import http.client, os, sys; c = http.client.HTTPConnection('127.0.0.1', int(os.environ['TURNPIKE_PORT']), timeout=4); c.request('GET', '/health'); sys.exit(c.getresponse().status != 200)"]
ENTRYPOINT ["turnpike"]
CMD ["serve"]
