# The page on port 7860, as an ordinary user, on the CPU by default.
#   docker build -t geko .
#   docker build -t geko --build-arg TORCH_INDEX=URL .    # URL of the index of PyTorch's wheels for your CUDA, or of
#                                                         # its much smaller CPU-only ones (see pytorch.org)
#   docker run -p 127.0.0.1:7860:7860 -v geko-runs:/runs -e GEKO_APP_PASSWORD=choose-one geko
#   docker run --gpus all ... geko                        # on a GPU box
FROM python:3.11-slim

ARG TORCH_INDEX=
RUN useradd --create-home --uid 1000 geko && mkdir /runs && chown geko /runs
WORKDIR /app
COPY constraints.txt pyproject.toml README.md LICENSE ./
RUN grep '^torch==' constraints.txt > torch.txt && \
    pip install --no-cache-dir ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} -r torch.txt
COPY geko_engine ./geko_engine
COPY geko_app ./geko_app
COPY assets ./assets
RUN pip install --no-cache-dir -c constraints.txt ".[all]"

USER geko
ENV GRADIO_ANALYTICS_ENABLED=False HF_HOME=/runs/.hub
VOLUME /runs
EXPOSE 7860
# A stop saves what is being trained. docker stop waits 10 seconds for that: give a large model more of them, with
# --stop-timeout 120 at docker run, or -t 120 at docker stop.
STOPSIGNAL SIGTERM
# Beyond the own machine the page asks for a password: give GEKO_APP_PASSWORD.
CMD ["geko-app", "--host", "0.0.0.0", "--port", "7860", "--runs", "/runs"]
