# The whole project, ready to run:
#     docker build -t gee .
#     docker run --name gee gee && docker cp gee:/home/gee/gee/reports .
# On an NVIDIA GPU (`docker run --gpus all …`), with the CUDA version that the driver supports:
#     docker build -t gee --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu128 .
# The image has no .git (.dockerignore): in the container, `dvc exp` does not work, and runs do not name their commit.
ARG PYTHON_VERSION=3.13
FROM python:${PYTHON_VERSION}-slim

# git for DVC, g++ for torch.compile
RUN apt-get update \
 && apt-get install --yes --no-install-recommends g++ git make \
 && rm -rf /var/lib/apt/lists/*

RUN useradd --create-home gee && install --directory --owner gee --group gee /home/gee/gee
USER gee
WORKDIR /home/gee/gee

# PyTorch, the largest package, in a layer of its own: an edit of the code does not install it again.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ENV PIP_NO_CACHE_DIR=1
RUN python -m venv .venv \
 && .venv/bin/python -m pip install torch torchvision torchaudio --index-url "$TORCH_INDEX"
COPY --chown=gee . .
RUN make install

CMD ["make", "run"]
