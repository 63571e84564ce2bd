# For NVIDIA GPUs: the wheels of JAX bring CUDA; the host gives the driver (Linux, NVIDIA Container Toolkit).
#   docker build -t learned-opt .
#   docker run --rm --gpus all -v "$PWD/runs:/workspace/runs" learned-opt train quickstart
FROM python:3.13-slim

# The source is there for this command only; what it builds beside it is dropped.
RUN --mount=type=bind,target=/source,readwrite \
    pip install --no-cache-dir '/source[train,tfds,cuda]'

# Compiled programs and tuned baselines lie below the home: mount a volume there to keep them.
RUN useradd --create-home --uid 1000 learned-opt && mkdir -p /workspace/runs && chown -R learned-opt /workspace
USER learned-opt
WORKDIR /workspace
ENTRYPOINT ["learned-opt"]
CMD ["--help"]
