# The command `kunlun-jax` on CPUs, from package indexes alone; -v brings tables, data sets and runs:
#
#   docker build -t kunlun-jax .
#   docker run --rm --user "$(id -u)" -v "$PWD:/work" kunlun-jax predict --run=runs/shop ...
#   docker run --rm -p 127.0.0.1:8000:8000 -v "$PWD:/work:ro" kunlun-jax serve --run=runs/shop \
#       --host=0.0.0.0 --port=8000
FROM python:3.11-slim AS wheel
COPY . /source
RUN pip wheel --no-cache-dir --no-deps --wheel-dir=/wheels /source

FROM python:3.11-slim
COPY --from=wheel /wheels /wheels
RUN pip install --no-cache-dir "$(echo /wheels/*.whl)[export,own-data,serve]" \
    && useradd --create-home kunlun \
    && install --directory --owner=kunlun /work
USER kunlun
WORKDIR /work
ENTRYPOINT ["kunlun-jax"]
