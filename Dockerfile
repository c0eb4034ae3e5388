# The page on port 7860, as an ordinary user. Two images, chosen by VARIANT:
#   docker build -t geko:cuda .                                                      # for NVIDIA GPUs; runs without one, too
#                                                                                    # (podman 4 needs --build-arg VARIANT=cuda)
#   docker build -t geko:cpu --build-arg VARIANT=cpu --build-arg TORCH_INDEX=URL .   # small; URL of the index of PyTorch's
#                                                                                    # CPU-only wheels (see pytorch.org)
# compose.yaml and docs/deploy.md say how to run it; scripts/container_check.py builds and tries it.
ARG VARIANT=cuda

# ------------------------------------------------------------ Python, and who runs in the image
FROM debian:bookworm-slim AS base
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates python3 python3-venv tini \
    && rm -rf /var/lib/apt/lists/* \
    && python3 -m venv /opt/geko
ENV PATH=/opt/geko/bin:$PATH \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
WORKDIR /build
COPY constraints.txt ./

# ------------------------------------------------------------ PyTorch: the largest layer comes first
FROM base AS torch-cpu
ARG TORCH_INDEX=
RUN grep '^torch==' constraints.txt > torch.txt \
    && pip install ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} -r torch.txt \
    && python -c "import torch, sys; sys.exit(torch.version.cuda and 'This is no CPU build: give --build-arg TORCH_INDEX=URL.')"

FROM base AS torch-cuda
ARG TORCH_INDEX=
# URL of a wheel of flash-attn for this Python, PyTorch and CUDA, where there is one; without it PyTorch's own kernels are used.
ARG FLASH_ATTN_WHEEL=
# Triton, which torch.compile and bitsandbytes use, needs a C compiler and the headers of Python; what torch.compile leaves on the
# CPU needs a C++ compiler.
# hadolint ignore=DL3013
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ libc6-dev python3-dev \
    && rm -rf /var/lib/apt/lists/* \
    && grep '^torch==' constraints.txt > torch.txt \
    && pip install ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} -r torch.txt \
    && if [ -n "$FLASH_ATTN_WHEEL" ]; then pip install --no-deps "$FLASH_ATTN_WHEEL" && pip install einops==0.8.1; fi
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility

# ------------------------------------------------------------ llama.cpp's converter, for exports to GGUF
FROM base AS llama-cpp
ARG LLAMA_CPP_VERSION=b9902
ARG LLAMA_CPP_SOURCE=https://github.com/ggml-org/llama.cpp
RUN apt-get update \
    && apt-get install --yes --no-install-recommends git \
    && git clone --quiet --depth 1 --branch "$LLAMA_CPP_VERSION" "$LLAMA_CPP_SOURCE" /source \
    && mkdir /llama.cpp \
    && cp -r /source/convert_hf_to_gguf.py /source/gguf-py /source/LICENSE /llama.cpp/ \
    && if [ -d /source/conversion ]; then cp -r /source/conversion /llama.cpp/; fi

# ------------------------------------------------------------ the other dependencies, then the code
# hadolint ignore=DL3006
FROM torch-${VARIANT} AS geko
WORKDIR /build
COPY pyproject.toml scripts/requirements.py ./
RUN python requirements.py app peft bnb rich mcp space > requirements.txt \
    && pip install -c constraints.txt -r requirements.txt sentencepiece
COPY --from=llama-cpp /llama.cpp /opt/llama.cpp
COPY hatch_build.py README.md LICENSE ./
COPY assets ./assets
COPY geko_engine ./geko_engine
COPY geko_app ./geko_app
RUN pip install --no-deps . && rm -rf /build/*

# Any user may run it (docker run --user): what is written lies in the two volumes, and in /tmp.
RUN useradd --create-home --uid 1000 geko \
    && mkdir /runs /cache \
    && chmod 1777 /runs /cache
ENV HOME=/cache/home \
    USER=geko \
    XDG_CACHE_HOME=/cache \
    HF_HOME=/cache/huggingface \
    GEKO_CACHE=/cache/geko \
    TRITON_CACHE_DIR=/cache/triton \
    TORCHINDUCTOR_CACHE_DIR=/cache/inductor \
    LLAMA_CPP_DIR=/opt/llama.cpp \
    GRADIO_ANALYTICS_ENABLED=False
USER 1000:1000
WORKDIR /runs
VOLUME ["/runs", "/cache"]
EXPOSE 7860
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import urllib.request as request; request.urlopen('http://127.0.0.1:7860/', timeout=5)"]
# A stop saves what is being trained, and the next start goes on with it. docker stop waits ten seconds for that: give a
# large model more of them, with --stop-timeout 120 at docker run, or -t 120 at docker stop.
STOPSIGNAL SIGTERM
ENTRYPOINT ["tini", "--"]
# Beyond the own machine the page asks for a password: give GEKO_APP_PASSWORD.
CMD ["geko-app", "--host", "0.0.0.0", "--port", "7860", "--runs", "/runs", "--resume-on-restart"]
