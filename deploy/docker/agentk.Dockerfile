# The agent. From the top folder:  docker build --file deploy/docker/agentk.Dockerfile --tag localhost/agentk:0.1.0 .
# Nothing of the server is in it: no database, no git, no web framework, and none of its code.
FROM python:3.13-slim-bookworm AS build
WORKDIR /src
COPY requirements/build.txt requirements/agentk.txt requirements/
RUN pip install --no-cache-dir --require-hashes -r requirements/build.txt \
    && python -m venv --without-pip /opt/agentk \
    && pip --python /opt/agentk/bin/python install --no-cache-dir --require-hashes -r requirements/agentk.txt
COPY pyproject.toml README.md LICENSE ./
COPY kastunnel kastunnel
COPY agentk agentk
RUN pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir dist . \
    && pip --python /opt/agentk/bin/python install --no-cache-dir --no-deps dist/*.whl \
    && rm /opt/agentk/bin/kas

FROM python:3.13-slim-bookworm
COPY --from=build /opt/agentk /opt/agentk
ENV PATH=/opt/agentk/bin:$PATH \
    PYTHONUNBUFFERED=1
USER 65532:65532
EXPOSE 8080
ENTRYPOINT ["agentk"]
