# Pin the base image where you build: put @sha256:... of your choice behind both FROM lines (docs/deploy/compose/README.md).
# Two stages: the first makes /opt/lockboard (a virtual environment with every dependency pinned by hash), the second runs it.
# tools/container_steps.sh holds the steps, so that `make container-check` runs the very same ones without an engine.

FROM python:3.12-slim AS builder
WORKDIR /src
COPY tools/container_steps.sh tools/
COPY requirements/build.txt requirements/container.txt requirements/
RUN tools/container_steps.sh dependencies /opt/lockboard
COPY pyproject.toml README.md LICENSE ./
COPY lockboard lockboard
COPY templates templates
COPY static static
RUN tools/container_steps.sh project /opt/lockboard

FROM python:3.12-slim
RUN groupadd --system --gid 10001 lockboard \
 && useradd --system --uid 10001 --gid 10001 --home-dir /var/lib/lockboard --no-create-home --shell /usr/sbin/nologin lockboard \
 && install --directory --owner 10001 --group 10001 --mode 0700 /var/lib/lockboard
COPY --from=builder /opt/lockboard /opt/lockboard
ENV PATH=/opt/lockboard/bin:$PATH \
    LOCKBOARD_CONFIG=/etc/lockboard/lockboard.toml \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
WORKDIR /var/lib/lockboard
USER 10001:10001

# Only these two places are written; everything else may be read-only:
#   docker run --read-only --tmpfs /tmp -v lockboard:/var/lib/lockboard -v ./lockboard.toml:/etc/lockboard/lockboard.toml:ro ...
# docs/deploy has a whole deployment: Docker Compose, and Amazon ECS.
VOLUME ["/var/lib/lockboard"]
EXPOSE 8080
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s --retries=3 \
    CMD ["python", "-c", "import http.client, sys; c = http.client.HTTPConnection('127.0.0.1', 8080, timeout=4); c.request('GET', '/healthz'); sys.exit(c.getresponse().status != 200)"]

# Every address of the container: it is reached from outside where its port is published or a proxy is beside it. So it
# does not start without `[auth]`, and without `[web] public_url` with https, which a proxy in front has to serve.
# The command may be another: `check`, `scan`, `collect`, `user add`, `audit verify`.
ENTRYPOINT ["lockboard"]
CMD ["serve", "--host", "0.0.0.0"]
