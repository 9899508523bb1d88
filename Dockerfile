# The page as a container: a Hugging Face Space (sdk: docker), or any machine with Docker.
#
#   docker build -t iteris-studio .
#   docker run -p 7860:7860 -v iteris-hub:/home/user/.cache/huggingface iteris-studio
#
# torch is PyTorch's build for CPUs, which makes an image of less than 2 GB. Without that index it
# is PyPI's, which has CUDA, for NVIDIA GPUs:
#   docker build --build-arg TORCH_INDEX= -t iteris-studio:cuda .
#   docker run --gpus all -p 7860:7860 iteris-studio:cuda
FROM python:3.11-slim-bookworm

# Spaces run every container as uid 1000; all that follows is done, and owned, by that user.
RUN useradd --create-home --uid 1000 user
USER user

ENV HOME=/home/user \
    PATH=/home/user/.local/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    HF_HOME=/home/user/.cache/huggingface \
    GRADIO_ANALYTICS_ENABLED=False \
    GRADIO_SERVER_NAME=0.0.0.0 \
    GRADIO_SERVER_PORT=7860 \
    GRADIO_NUM_PORTS=1 \
    MPLCONFIGDIR=/tmp/matplotlib

# Made by the user, so that the folder, or a volume mounted over it, does not belong to root.
RUN mkdir -p "$HF_HOME" "$HOME/studio"

WORKDIR /home/user/studio

# The requirements are a layer of their own: a change of the code does not install them again.
# Gradio is not imported while building: its first import writes the seed that makes upload paths
# unguessable, and a seed inside a public image would be known to all.
COPY --chown=1000:1000 requirements.txt .
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN pip install --no-cache-dir --user \
    ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} -r requirements.txt

COPY --chown=1000:1000 . .

EXPOSE 7860
HEALTHCHECK --interval=30s --timeout=10s --start-period=180s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as u; u.urlopen(f'http://127.0.0.1:{os.environ[\"GRADIO_SERVER_PORT\"]}/health', timeout=8)"]
CMD ["python", "-m", "app"]
