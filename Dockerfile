# Image of the service and of batch jobs, for KubeRay or for plain Docker.
#
#   docker build --target cpu  --build-arg TORCH_INDEX_URL=URL -t acousticsense:cpu .
#   docker build --target cuda -t acousticsense:cuda .
#
# URL is PyTorch's package index of CPU builds; without it pip installs the default build, which on
# Linux includes CUDA. `make image-check` runs the same install lines in an empty folder, without a
# container engine.
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS system
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
# KubeRay's probes call bash, wget and grep.
# hadolint ignore=DL3008,SC2016
RUN apt-get update \
 && apt-get install --no-install-recommends --yes bash grep wget \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --uid 1000 --create-home ray \
 && echo 'export PATH=/opt/venv/bin:$PATH' > /etc/profile.d/venv.sh    # for login shells
ENV VENV=/opt/venv APP=/app

FROM system AS packages
ARG TORCH=torch==2.13.0
ARG TORCH_INDEX_URL=""
WORKDIR /build
COPY requirements.lock ./
RUN python -m venv "$VENV" \
 && "$VENV/bin/pip" install --no-cache-dir --no-deps --require-hashes --requirement requirements.lock \
 && "$VENV/bin/pip" install --no-cache-dir ${TORCH_INDEX_URL:+--index-url "$TORCH_INDEX_URL"} "$TORCH" \
 && "$VENV/bin/pip" check
# What is installed, for tools that look for known weaknesses: sbom.cdx.json (CycloneDX).
RUN python -m venv /tmp/sbom \
 && /tmp/sbom/bin/pip install --no-cache-dir cyclonedx-bom==7.5.0 \
 && /tmp/sbom/bin/cyclonedx-py environment --output-reproducible --output-file "$VENV/sbom.cdx.json" "$VENV" \
 && rm -r /tmp/sbom

FROM system AS cpu
COPY --from=packages /opt/venv /opt/venv
WORKDIR /app
COPY LICENSE serve_config.yaml ./
COPY acoustic acoustic
COPY deployments deployments
COPY acousticsense acousticsense
COPY configs configs
COPY models/default models/default
ENV PATH=/opt/venv/bin:$PATH PYTHONPATH=/app PYTHONUNBUFFERED=1 HOME=/home/ray
# The program that RAY_SERVE_HAPROXY_BINARY_PATH names; see deployments/proxy.py.
RUN printf '#!/bin/sh\nexec %s/bin/python -I %s/deployments/proxy.py "$@"\n' "$VENV" "$APP" \
      > "$VENV/bin/acousticsense-haproxy" \
 && chmod 755 "$VENV/bin/acousticsense-haproxy"
# At run time the root file system is read-only, so bytecode is compiled now. The other two commands
# check that the image works.
RUN "$VENV/bin/python" -m compileall -q "$APP" \
 && "$VENV/bin/python" -m acousticsense config check \
 && "$VENV/bin/python" -c 'from pathlib import Path; from acoustic.pipeline import Pipeline; from acoustic.example import example_wav; print(Pipeline.from_folder(Path("models/default")).classify(example_wav()).to_dict()["top_genre"])'
USER 1000:1000
EXPOSE 8000
CMD ["python", "-m", "acousticsense", "serve", "--host", "0.0.0.0"]

# torch.compile calls a C compiler for every kernel, even with a warm cache.
FROM cpu AS cuda
USER 0
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install --no-install-recommends --yes gcc libc6-dev \
 && rm -rf /var/lib/apt/lists/*
ENV TORCHINDUCTOR_CACHE_DIR=/home/ray/.cache/torchinductor
USER 1000:1000
