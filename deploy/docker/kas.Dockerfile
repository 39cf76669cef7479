# The server. From the top folder:  docker build --file deploy/docker/kas.Dockerfile --tag localhost/kas:0.1.0 .
# State (database, own CA) lies in /var/lib/kas: mount a volume there. kas.yaml is expected at /etc/kas/kas.yaml.
FROM python:3.13-slim-bookworm AS build
WORKDIR /src
COPY requirements/build.txt requirements/kas.txt requirements/
RUN pip install --no-cache-dir --require-hashes -r requirements/build.txt \
    && python -m venv --without-pip /opt/kas \
    && pip --python /opt/kas/bin/python install --no-cache-dir --require-hashes -r requirements/kas.txt
COPY pyproject.toml README.md LICENSE ./
COPY kastunnel kastunnel
COPY kas kas
RUN pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir dist . \
    && pip --python /opt/kas/bin/python install --no-cache-dir --no-deps dist/*.whl \
    && rm /opt/kas/bin/agentk

FROM python:3.13-slim-bookworm
RUN install -d -o 65532 -g 65532 -m 0700 /var/lib/kas
COPY --from=build /opt/kas /opt/kas
ENV PATH=/opt/kas/bin:$PATH \
    KAS_CONFIG=/etc/kas/kas.yaml \
    PYTHONUNBUFFERED=1
USER 65532:65532
VOLUME /var/lib/kas
EXPOSE 8150 8151 8153 8154
ENTRYPOINT ["kas"]
CMD ["serve"]
