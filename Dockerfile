# One image for every part: the command says which (docker-compose.yml). Nothing but what the lock names is installed.
FROM python:3.11-slim AS build
WORKDIR /app
RUN python -m venv /venv
COPY requirements.lock pyproject.toml README.md LICENSE ./
RUN /venv/bin/pip install --no-cache-dir --disable-pip-version-check --require-hashes -r requirements.lock
COPY bandits bandits
COPY serving serving
COPY platform platform
COPY clients/javascript/dist clients/javascript/dist
RUN /venv/bin/pip install --no-cache-dir --disable-pip-version-check --no-deps --no-build-isolation .

FROM python:3.11-slim
RUN useradd --system --uid 10001 --home-dir /data noregret && install --directory --owner noregret /data /run/noregret-metrics
COPY --from=build /venv /venv
WORKDIR /data
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    DJANGO_SETTINGS_MODULE=noregret.settings NOREGRET_DATA_DIR=/data \
    OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
USER noregret
VOLUME /data
EXPOSE 8000
HEALTHCHECK --interval=15s --timeout=5s --start-period=30s CMD ["python", "-c", \
    "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/healthz', timeout=4)"]
# Several web processes add up their counters in a folder; other commands write none there.
CMD ["env", "PROMETHEUS_MULTIPROC_DIR=/run/noregret-metrics", "python", "-m", "noregret.web", "--host", "0.0.0.0", "--port", "8000"]
